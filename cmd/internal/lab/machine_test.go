package lab_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/cmd/internal/wire"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

var mac1 = provider.MAC{0x52, 0x54, 0, 0, 0, 1}

// TestMachineObeys starts a kernel directly and goes through what can be done to a
// running machine.
func TestMachineObeys(t *testing.T) {
	t.Parallel()
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "qemu-system-x86_64", "apt-get", "dpkg-deb", "busybox", "cpio")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	dir := t.TempDir()
	l := newLab(t, lab.Config{Name: t.Name(), Dir: dir})
	initrd := filepath.Join(dir, "initrd.img")
	write(t, initrd, busyboxInitrd(t))
	disk := filepath.Join(dir, "disk,raw")
	write(t, disk, make([]byte, 1<<20))
	config := lab.MachineConfig{
		Name: "ws01", MAC: mac1, Memory: 256, Firmware: lab.Direct,
		UUID:   "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		Kernel: debianKernel(t), Initrd: initrd, Append: "console=ttyS0 quiet no_timer_check lab.shell",
		Disk: &lab.Disk{Path: disk},
	}
	m, err := l.Machine(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Machine(ctx, config); err == nil {
		t.Error("a second machine with the same name and address runs")
	}
	wait := func(mark int, re string) string {
		t.Helper()
		line, err := m.WaitConsoleFrom(ctx, mark, regexp.MustCompile(re))
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	prompt := `^/ # $`
	wait(0, prompt)
	if err := m.SendConsole("echo disk $(grep -c 0x1001 /sys/bus/pci/devices/*/device | grep -c :1) $(cat /sys/class/dmi/id/product_uuid)\n"); err != nil {
		t.Fatal(err)
	}
	wait(0, `^disk 1 `+config.UUID+`$`)

	// A stopped machine shows nothing; a continued one has kept what was typed.
	if err := m.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := m.QMP(ctx, "query-status", nil); err != nil || !strings.Contains(string(v), `"paused"`) {
		t.Errorf("status of a stopped machine: %s, %v", v, err)
	}
	mark := m.ConsoleMark()
	if err := m.SendConsole("echo still $((40+2))\n"); err != nil {
		t.Fatal(err)
	}
	if err := m.Cont(ctx); err != nil {
		t.Fatal(err)
	}
	wait(mark, `^still 42$`)
	for _, up := range []bool{false, true} {
		if err := m.SetLink(ctx, up); err != nil {
			t.Error(err)
		}
	}
	var refused *lab.QMPError
	if _, err := m.QMP(ctx, "no-such-command", nil); !errors.As(err, &refused) || refused.Class != "CommandNotFound" {
		t.Errorf("an unknown command: %v", err)
	}
	if err := m.Powerdown(ctx); err != nil { // nobody in this guest listens to the button
		t.Error(err)
	}

	mark = m.ConsoleMark()
	if err := m.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	wait(mark, bootMarker)
	wait(mark, prompt)
}

// TestEndOfAMachine looks at each way in which a machine ends.
func TestEndOfAMachine(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "qemu-system-x86_64")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	l := newLab(t, lab.Config{Name: t.Name(), Dir: dir})
	config := lab.MachineConfig{Name: "ws01", MAC: mac1, Memory: 64}
	start := func() *lab.Machine {
		t.Helper()
		m, err := l.Machine(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.WaitConsole(ctx, regexp.MustCompile("SeaBIOS")); err != nil {
			t.Fatal(err)
		}
		if at, ok := m.ConsoleTime(regexp.MustCompile("SeaBIOS")); ok && (at.Before(m.Began()) || at.After(time.Now())) {
			t.Errorf("switched on at %v, and the first line came at %v", m.Began(), at)
		}
		return m
	}

	m := start()
	if err := m.Quit(ctx); err != nil {
		t.Errorf("Quit: %v", err)
	}
	if err := m.Wait(ctx); err != nil {
		t.Errorf("Wait after Quit: %v", err)
	}
	if err := m.Quit(ctx); err != nil {
		t.Errorf("Quit again: %v", err)
	}
	if _, err := m.WaitConsole(ctx, regexp.MustCompile("never shown")); !errors.Is(err, lab.ErrExited) || !strings.Contains(err.Error(), "SeaBIOS") {
		t.Errorf("waiting for its console: %v", err)
	}
	if err := m.SendConsole("x"); err == nil {
		t.Error("it still takes input")
	}
	if err := m.Reset(ctx); !errors.Is(err, lab.ErrExited) {
		t.Errorf("Reset after the end: %v", err)
	}

	again := start()
	if again.ConsoleFile() == m.ConsoleFile() {
		t.Error("a second life writes over the first one's console")
	}
	again.Kill()
	again.Kill()
	var exit *exec.ExitError
	if err := again.Wait(ctx); !errors.As(err, &exit) {
		t.Errorf("Wait after Kill: %v", err)
	}
	if b := read(t, m.ConsoleFile()); !strings.Contains(string(b), "SeaBIOS") {
		t.Errorf("the console's file holds %q", b)
	}
	var devices []string
	if err := l.Do(func() error { devices = interfaces(t); return nil }); err != nil || strings.Contains(strings.Join(devices, " "), "tap") {
		t.Errorf("network devices stay: %q, %v", devices, err)
	}

	// What QEMU refuses is in the error, in its words.
	broken := config
	broken.Args = []string{"-device", "no-such-device"}
	if _, err := l.Machine(ctx, broken); err == nil || !strings.Contains(err.Error(), "no-such-device") {
		t.Errorf("a bad argument: %v", err)
	}
	last := start()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-last.Done():
	default:
		t.Error("a machine runs in a closed lab")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.console")); len(left) != 4 {
		t.Errorf("console files %q, want 4", left)
	}
}

func TestMachineConfigIsChecked(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip")
	l := newLab(t, lab.Config{Name: t.Name()})
	good := lab.MachineConfig{Name: "m", MAC: mac1}
	for what, change := range map[string]func(*lab.MachineConfig){
		"no name":          func(c *lab.MachineConfig) { c.Name = "" },
		"no address":       func(c *lab.MachineConfig) { c.MAC = provider.MAC{} },
		"group address":    func(c *lab.MachineConfig) { c.MAC[0] = 1 },
		"no kernel":        func(c *lab.MachineConfig) { c.Firmware = lab.Direct },
		"kernel with BIOS": func(c *lab.MachineConfig) { c.Kernel = "/vmlinuz" },
		"unknown firmware": func(c *lab.MachineConfig) { c.Firmware = 99 },
		"negative memory":  func(c *lab.MachineConfig) { c.Memory = -1 },
		"negative CPUs":    func(c *lab.MachineConfig) { c.CPUs = -1 },
	} {
		c := good
		change(&c)
		if m, err := l.Machine(t.Context(), c); err == nil {
			m.Kill()
			t.Errorf("%s: no error", what)
		} else if _, lookup := errors.AsType[*os.PathError](err); lookup {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFirmwareShowsItself waits for the first DISCOVER of each UEFI firmware.
func TestFirmwareShowsItself(t *testing.T) {
	t.Parallel()
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "qemu-system-x86_64")
	if testing.Short() {
		t.Skip("short")
	}
	firmware := []lab.Firmware{lab.UEFI, lab.UEFIiPXE, lab.UEFIHTTP, lab.UEFISecure}
	if missing := lab.Missing(firmware...); len(missing) > 0 {
		providertest.Need(t, missing...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	l := newLab(t, lab.Config{Name: t.Name()})
	capture, err := l.Capture(ctx)
	if err != nil {
		t.Fatal(err)
	}
	vendor := map[lab.Firmware]string{
		lab.UEFI:     "PXEClient:Arch:00007:UNDI:003000",
		lab.UEFIiPXE: "PXEClient:Arch:00007:UNDI:003010",
		lab.UEFIHTTP: "HTTPClient:Arch:00016:UNDI:003000",

		lab.UEFISecure: "PXEClient:Arch:00007:UNDI:003000",
	}
	mac := func(f lab.Firmware) provider.MAC { return provider.MAC{2, 0, 0, 0, 0, byte(f)} }
	began := time.Now()
	for _, f := range firmware {
		if _, err := l.Machine(ctx, lab.MachineConfig{Name: f.String(), MAC: mac(f), Memory: 256, Firmware: f}); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range firmware {
		var packets []*wire.DHCP
		poll(t, f.String()+" to ask", func() bool {
			all, err := capture.Traffic()
			if err != nil {
				t.Fatal(err)
			}
			packets = all.Of(mac(f)).DHCP
			return len(packets) > 0
		})
		first := packets[0].Packet
		t.Logf("%v: %.1f s to %q, class %q", f, packets[0].At.Sub(began).Seconds(), first.ClassIdentifier(), first.UserClass())
		if got := first.ClassIdentifier(); got != vendor[f] {
			t.Errorf("%v: vendor class %q, want %q", f, got, vendor[f])
		}
		if isIPXE := strings.Contains(strings.Join(first.UserClass(), " "), "iPXE"); isIPXE != (f == lab.UEFIiPXE) {
			t.Errorf("%v: user class %q", f, first.UserClass())
		}
	}
}
