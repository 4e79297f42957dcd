package export

import (
	"net/netip"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/schema"
)

// descriptors leaves the process n of them, until the call of what it gives.
func descriptors(t *testing.T, n int) (again func()) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	highest := 0
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			highest = max(highest, fd)
		}
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(highest + 1 + n), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	for range n {
		unix.Close(taken[len(taken)-1])
		taken = taken[:len(taken)-1]
	}
	return func() {
		for _, fd := range taken {
			unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
	}
}

// An overlay of keep = "connection" that was made and could not be opened stayed until the
// next start, and each time that the machine asked there was one more.
func TestConnectionThatFailsLeavesNothing(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepConnection))
	peer := nbd.Peer{Remote: netip.AddrPortFrom(loopback, 1), Drop: func() {}}
	for n := 0; ; n++ {
		again := descriptors(t, n)
		a, err := r.attach(t.Context(), peer, nameOf("arch", a)+bootA)
		again()
		if err == nil {
			a.close()
			break
		}
		if n > 20 {
			t.Fatal(err)
		}
		if err := r.overlays.Sweep(); err != nil {
			t.Fatal(err)
		}
		if l := r.overlays.List(); len(l) != 0 {
			t.Fatalf("%d descriptors: %v stays", n, l)
		}
	}
	if left, err := os.ReadDir(r.state + "/overlays"); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// An overlay that nothing was written to, and that could not be removed at once, had its
// boot told that what it wrote is gone.
func TestUnwrittenConnectionThatIsInUse(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepConnection))
	m := r.mustDial(nameOf("arch", a) + bootA)
	m.read(0, 10)
	list := r.overlays.List()
	base, err := r.blobs.Get(a.Root)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	defer base.Release()
	o, err := r.overlays.Reopen(list[0].Key, cow.Base{Digest: a.Root.Digest, Size: a.Root.Size}, base)
	if err != nil {
		t.Fatal(err)
	}
	m.gone(r)
	m = r.mustDial(nameOf("arch", a) + bootA)
	o.Close()
	if err := r.overlays.Sweep(); err != nil {
		t.Fatal(err)
	}
	if l := r.overlays.List(); len(l) != 1 || l[0].Key == list[0].Key {
		t.Errorf("%v", l)
	}
	m.write(0, "x")
	m.gone(r)
	r.wantDenied(nameOf("arch", a)+bootA, `keep = "connection"`)
}
