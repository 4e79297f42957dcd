package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeDevice stands for the kernel: it keeps a duplicate of the connection it was
// given, as the kernel keeps a reference.
type fakeDevice struct {
	dead      chan error // what linkDead returns
	connected chan exportInfo
	replaced  chan struct{}
	refuse    error
	fds       []int
}

func newFakeDevice(t *testing.T) *fakeDevice {
	d := &fakeDevice{dead: make(chan error), connected: make(chan exportInfo, 1), replaced: make(chan struct{}, 9)}
	t.Cleanup(func() {
		for _, fd := range d.fds {
			syscall.Close(fd)
		}
	})
	return d
}

func (d *fakeDevice) take(fd int) error {
	dup, err := syscall.Dup(fd)
	if err == nil {
		d.fds = append(d.fds, dup)
	}
	return err
}

func (d *fakeDevice) connect(e exportInfo, fd int) error {
	d.connected <- e
	return d.take(fd)
}

func (d *fakeDevice) reconfigure(fd int) error {
	if d.refuse != nil {
		return d.refuse
	}
	d.replaced <- struct{}{}
	return d.take(fd)
}

func (d *fakeDevice) linkDead() error { return <-d.dead }

// journal collects what is logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) log(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(&j.text, format+"\n", args...)
}

func (j *journal) has(s string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Contains(j.text.String(), s)
}

func newResident(t *testing.T, tgt target, d device) (*resident, *journal) {
	j := &journal{}
	return &resident{
		target: tgt, dev: d, dial: dialTo(tgt), log: j.log, now: time.Now,
		pause:            func() { time.Sleep(5 * time.Millisecond) },
		negotiateTimeout: 500 * time.Millisecond,
	}, j
}

func TestResidentOutlivesServer(t *testing.T) {
	addr := freeAddr(t)
	d := newFakeDevice(t)
	r, j := newResident(t, target{server: addr, export: "arch", deadline: time.Minute}, d)
	done := make(chan error, 1)
	go func() {
		err := r.attach()
		if err == nil {
			err = r.keep()
		}
		done <- err
	}()

	// The first dial is tried again until a server is there.
	within(t, 5*time.Second, func() bool { return j.has("trying again") }, func() string { return "no retry" })
	srv := nbdkit(t, addr, "memory", "4M")
	if e := <-d.connected; e.size != 4<<20 {
		t.Fatalf("size %d", e.size)
	}

	// Killed and back: one event brings one connection.
	srv.kill()
	d.dead <- nil
	within(t, 5*time.Second, func() bool { return j.has("is lost") }, func() string { return "event not seen" })
	srv = nbdkit(t, addr, "memory", "4M")
	<-d.replaced

	// Back with other bytes: refused, until the right ones are back.
	srv.kill()
	srv = nbdkit(t, addr, "memory", "8M")
	d.dead <- nil
	within(t, 5*time.Second, func() bool { return j.has("is another one now: 8388608 bytes") }, func() string { return "another export was not noticed" })
	srv.kill()
	srv = nbdkit(t, addr, "-r", "memory", "4M")
	within(t, 5*time.Second, func() bool { return j.has("is another one now: 4194304 bytes") }, func() string { return "other flags were not noticed" })
	if len(d.replaced) != 0 {
		t.Fatal("another export was handed to the kernel")
	}
	srv.kill()
	srv = nbdkit(t, addr, "memory", "4M")
	<-d.replaced

	// Frozen: it accepts and says nothing. Each attempt times out, until it thaws.
	srv.cmd.Process.Signal(syscall.SIGSTOP)
	d.dead <- nil
	within(t, 5*time.Second, func() bool { return j.has("i/o timeout") }, func() string { return "no timeout" })
	srv.cmd.Process.Signal(syscall.SIGCONT)
	<-d.replaced

	// Detached by somebody: nothing is left to keep.
	d.refuse = fmt.Errorf("nbd reconfigure: %w", syscall.EINVAL)
	d.dead <- nil
	if err := <-done; err == nil || !strings.Contains(err.Error(), "nbd0 was detached") {
		t.Fatal(err)
	}
}

func TestAttachGivesUpAtDeadline(t *testing.T) {
	addr := freeAddr(t)
	r, _ := newResident(t, target{server: addr, export: "arch", deadline: time.Minute}, newFakeDevice(t))
	clock := time.Unix(0, 0)
	r.now = func() time.Time { return clock }
	r.pause = func() { clock = clock.Add(20 * time.Second) }
	err := r.attach()
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "within 1m0s") {
		t.Fatal(err)
	}
}

func TestParseTarget(t *testing.T) {
	got, err := parseTarget([]string{"--server", "10.0.0.1", "--export", "arch@3f2a9c1d7e08", "--device", "nbd2"}, &strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	name, id, _ := strings.Cut(got.export, "+")
	if got.server.String() != "10.0.0.1:10809" || got.index != 2 || name != "arch@3f2a9c1d7e08" || len(id) != 36 {
		t.Errorf("got %+v", got)
	}
	got, err = parseTarget([]string{"--server=[fd00::1]:99", "--export=a", "--instance=-"}, &strings.Builder{})
	if err != nil || got.server.String() != "[fd00::1]:99" || got.export != "a" || got.device() != "nbd0" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{
		"--export=a", "--server=10.0.0.1", "--server=host --export=a", "--server=10.0.0.1:0 --export=a",
		"--server=10.0.0.1 --export=a --device=sda", "--server=10.0.0.1 --export=a --device=nbd-1",
		"--server=10.0.0.1 --export=a extra", "--server=10.0.0.1 --export=" + strings.Repeat("x", 5000),
	} {
		if _, err := parseTarget(strings.Fields(bad), &strings.Builder{}); err == nil {
			t.Errorf("%.60s was taken", bad)
		}
	}
}

func TestServerUpgradeHungTheRoot(t *testing.T) {
	const has, readOnly, flush, fua, trim, multi, cache = 1, 2, 4, 8, 32, 256, 1024
	have := exportInfo{size: 4 << 20, flags: has | flush | fua | trim}
	for name, tt := range map[string]struct {
		size  uint64
		flags uint16
		want  bool
	}{
		"the same":       {4 << 20, has | flush | fua | trim, true},
		"more flags":     {4 << 20, has | flush | fua | trim | multi | cache, true},
		"larger":         {8 << 20, has | flush | fua | trim, false},
		"read-only":      {4 << 20, has | flush | fua | trim | readOnly, false},
		"no FUA":         {4 << 20, has | flush | trim, false},
		"FUA for others": {4 << 20, has | flush | trim | multi, false},
	} {
		if got := (exportInfo{tt.size, tt.flags}).canReplace(have); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if (exportInfo{4 << 20, has | flush}).canReplace(exportInfo{4 << 20, has | readOnly | flush}) {
		t.Error("writable in place of read-only")
	}
}
