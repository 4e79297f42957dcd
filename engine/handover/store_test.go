package handover

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// listening is a service manager that notes what it is told, and holds nothing.
type listening struct {
	mu   sync.Mutex
	said []string
}

func (l *listening) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said)
}

func newStore(t *testing.T) (*Store, *listening) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	l, done := &listening{}, make(chan struct{})
	go func() {
		defer close(done)
		b, oob := make([]byte, 4096), make([]byte, 4096)
		for {
			n, on, _, _, err := c.ReadMsgUnix(b, oob)
			if err != nil {
				return
			}
			l.mu.Lock()
			l.said = append(l.said, strings.ReplaceAll(string(b[:n]), "\n", " "))
			l.mu.Unlock()
			messages, _ := unix.ParseSocketControlMessage(oob[:on]) // none is fine
			for _, m := range messages {
				fds, _ := unix.ParseUnixRights(&m)
				for _, fd := range fds {
					unix.Close(fd)
				}
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return makeStore(at, slog.New(slog.DiscardHandler)), l
}

// heard waits until the manager has read what was sent, by a barrier.
func (s *Store) heard() {
	if err := s.lock(context.Background()); err != nil {
		panic(err) // it has no end
	}
	defer s.unlock()
	s.dropped = true
	if err := s.settle(context.Background()); err != nil {
		panic(err)
	}
}

func bindTCP(at string) func() (*net.TCPListener, error) {
	return func() (*net.TCPListener, error) {
		return net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	}
}

func fileOf(t *testing.T, c interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func addr(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// What was stored is used when it is what would be bound, and nothing else is.
func TestOpen(t *testing.T) {
	s, told := newStore(t)
	first, err := Open(t.Context(), s, "a", TCP(netip.AddrPort{}), bindTCP("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	at := addr(first)
	never := func() (*net.TCPListener, error) { return nil, errors.New("bound anew") }
	s.inherited["a"] = []*os.File{fileOf(t, first)}
	same, err := Open(t.Context(), s, "a", TCP(at), never)
	if err != nil {
		t.Fatal(err)
	}
	defer same.Close()
	if addr(same) != at {
		t.Errorf("%s, want %s", addr(same), at)
	}
	s.heard()
	if want := []string{"FDSTORE=1 FDPOLL=0 FDNAME=a", "BARRIER=1"}; !slices.Equal(told.all(), want) {
		t.Errorf("told %q, want %q", told.all(), want)
	}

	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	client, err := net.Dial("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	six, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer six.Close()
	local, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	other, err := bindTCP("127.0.0.1:0")()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for what, f := range map[string]*os.File{
		"a datagram socket": fileOf(t, udp), "a file": file, "a connection": fileOf(t, client.(*net.TCPConn)),
		"IPv6": fileOf(t, six.(*net.TCPListener)), "another address": fileOf(t, other),
		"a Unix socket": fileOf(t, local),
	} {
		s.inherited["x"] = []*os.File{f}
		s.heard()
		before := len(told.all())
		l, err := Open(t.Context(), s, "x", TCP(at), bindTCP("127.0.0.1:0"))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		l.Close()
		// The barrier was waited for: the manager has read what came before it.
		if got := told.all()[before:]; !slices.Equal(got[:2], []string{"FDSTOREREMOVE=1 FDNAME=x", "BARRIER=1"}) {
			t.Errorf("%s: told %q", what, got)
		}
	}
	if _, err := UDP(at, "")(fileOf(t, same)); err == nil {
		t.Error("a TCP listener passes for a UDP socket")
	}
	if _, err := UDP(udp.LocalAddr().(*net.UDPAddr).AddrPort(), "eth99")(fileOf(t, udp)); err == nil {
		t.Error("a socket of no interface passes for one of eth99")
	}
}

// A name that stands for two is nobody's; what is left over is closed, and told.
func TestRest(t *testing.T) {
	s, told := newStore(t)
	l, err := bindTCP("127.0.0.1:0")()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	left := fileOf(t, l)
	s.inherited["twice"] = []*os.File{fileOf(t, l), fileOf(t, l)}
	s.inherited["left"] = []*os.File{left}
	again, err := Open(t.Context(), s, "twice", TCP(addr(l)), bindTCP("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if addr(again) == addr(l) {
		t.Error("one of two was taken")
	}
	s.Rest()
	s.Rest()
	if err := left.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("what is left over is open: %v", err)
	}
	s.Drop("twice")
	s.Drop("twice")
	s.Drop("never there")
	s.heard()
	want := []string{"FDSTOREREMOVE=1 FDNAME=twice", "BARRIER=1", "FDSTORE=1 FDPOLL=0 FDNAME=twice", "FDSTOREREMOVE=1 FDNAME=left", "FDSTOREREMOVE=1 FDNAME=twice", "BARRIER=1"}
	if !slices.Equal(told.all(), want) {
		t.Errorf("told %q, want %q", told.all(), want)
	}
}

// A Unix socket is taken over only while its file still leads to it.
func TestUnixSocketWithItsFile(t *testing.T) {
	s, _ := newStore(t)
	path := filepath.Join(t.TempDir(), "sock")
	l, err := s.ListenUnix(t.Context(), "api", path)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	for n := range s.kept {
		name = n
	}
	s.inherited[name] = []*os.File{fileOf(t, l)}
	l.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the file went with the process: %v", err)
	}
	same, err := s.ListenUnix(t.Context(), "api", path)
	if err != nil {
		t.Fatalf("not taken over: %v", err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got, err := same.Accept(); err != nil {
		t.Error(err)
	} else {
		got.Close()
	}

	s.inherited[name] = []*os.File{fileOf(t, same)}
	same.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fresh, err := s.ListenUnix(t.Context(), "api", path)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if c, err = net.Dial("unix", path); err != nil {
		t.Fatalf("nobody can reach it: %v", err)
	}
	c.Close()
}

// Without a service manager nothing is kept, and nothing is in the way.
func TestNoManager(t *testing.T) {
	var s *Store
	l, err := Open(t.Context(), s, "a", TCP(netip.AddrPort{}), bindTCP("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s.Drop("a")
	s.Rest()
	path := filepath.Join(t.TempDir(), "sock")
	u, err := s.ListenUnix(t.Context(), "api", path)
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file is left: %v", err)
	}
	gone, _ := newStore(t)
	gone.notify = filepath.Join(t.TempDir(), "nobody")
	if l, err = Open(t.Context(), gone, "a", TCP(netip.AddrPort{}), bindTCP("127.0.0.1:0")); err != nil {
		t.Fatalf("a manager that went: %v", err)
	}
	l.Close()
}

func TestName(t *testing.T) {
	if got, want := Name("dhcp", "10.0.0.1:67", "eth:0\n"), "dhcp-10.0.0.1_67-eth_0_"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
