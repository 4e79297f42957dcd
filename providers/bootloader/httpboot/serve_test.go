package httpboot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type served struct {
	*Server
	t     *testing.T
	addr  netip.AddrPort
	url   string
	ln    *net.TCPListener
	stop  context.CancelFunc
	ended chan error

	opened, released atomic.Int64
	done             chan Transfer
	phoned           chan string
}

// testFile is a file in memory, or one on disk where os is set.
type testFile struct {
	*bytes.Reader
	os *os.File
	s  *served
}

func (f testFile) Digest() string   { return fmt.Sprintf("sha256:%064d", f.Size()) }
func (f testFile) OSFile() *os.File { return f.os }
func (f testFile) Release()         { f.s.released.Add(1) }

// serve serves files from memory; those named disk/… from an unlinked file.
func serve(t *testing.T, cfg Config, files map[string][]byte) *served {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, cfg, files, ln, goneTimeout)
}

func serveOn(t *testing.T, cfg Config, files map[string][]byte, ln *net.TCPListener, gone time.Duration) *served {
	t.Helper()
	s := &served{t: t, ended: make(chan error, 1), done: make(chan Transfer, 1000), phoned: make(chan string, 10)}
	onDisk := map[string]*os.File{}
	for name, b := range files {
		if !strings.HasPrefix(name, "disk/") {
			continue
		}
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(path)
		t.Cleanup(func() { f.Close() })
		onDisk[name] = f
	}
	cfg.Open = func(r Request) (File, error) {
		name := r.Name
		switch name {
		case "secret":
			return nil, fs.ErrPermission
		case "broken":
			return nil, errors.New("disk on fire")
		}
		b, ok := files[name]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		s.opened.Add(1)
		return testFile{bytes.NewReader(b), onDisk[name], s}, nil
	}
	cfg.Done = func(tr Transfer) { s.done <- tr }
	cfg.Phone = func(client netip.AddrPort, stage string) { s.phoned <- client.Addr().String() + " " + stage }
	s.Server = NewServer(cfg)
	s.Server.gone = gone
	s.ln, s.addr = ln, ln.Addr().(*net.TCPAddr).AddrPort()
	s.url = "http://" + s.addr.String()
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.ended <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if s.ended != nil {
			if err := <-s.ended; err != nil {
				t.Error("Serve:", err)
			}
		}
		if o, r := s.opened.Load(), s.released.Load(); o != r {
			t.Errorf("%d files opened, %d released", o, r)
		}
		if n := len(s.conns.slots); n != 0 {
			t.Errorf("%d connections still counted", n)
		}
		if n := len(s.conns.client); n != 0 {
			t.Errorf("%d clients still counted", n)
		}
	})
	return s
}

func (s *served) next() Transfer {
	s.t.Helper()
	select {
	case tr := <-s.done:
		return tr
	case <-time.After(10 * time.Second):
		s.t.Fatal("no transfer ended")
		panic("unreachable")
	}
}

func (s *served) quiet() {
	s.t.Helper()
	select {
	case tr := <-s.done:
		s.t.Errorf("unexpected transfer %+v", tr)
	default:
	}
}

// dial opens a plain connection.
func (s *served) dial() *net.TCPConn {
	s.t.Helper()
	c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(s.addr))
	if err != nil {
		s.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	s.t.Cleanup(func() { c.Close() })
	return c
}

// raw sends a request as it stands and reads one response.
func (s *served) raw(request string) (*http.Response, string) {
	s.t.Helper()
	c := s.dial()
	defer c.Close()
	io.WriteString(c, request)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%q: %v", request, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%q: %v", request, err)
	}
	return resp, string(body)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestRequests(t *testing.T) {
	s := serve(t, Config{}, map[string][]byte{"b/id/boot.ipxe": []byte("#!ipxe\n"), "b/id/x.efi": []byte("MZ"), "a b": []byte("space")})
	for name, tc := range map[string]struct {
		line   string
		status int
		body   string
	}{
		"plain":                 {"GET /b/id/boot.ipxe", 200, "#!ipxe\n"},
		"double slashes (shim)": {"GET //b//id//boot.ipxe", 200, "#!ipxe\n"},
		"absolute form":         {"GET http://other/b/id/boot.ipxe", 200, "#!ipxe\n"},
		"single dot":            {"GET /./b/id/boot.ipxe", 200, "#!ipxe\n"},
		"escaped":               {"GET /a%20b", 200, "space"},
		"query ignored":         {"GET /b/id/boot.ipxe?x=1", 200, "#!ipxe\n"},
		"head":                  {"HEAD /b/id/boot.ipxe", 200, ""},
		"missing":               {"GET /nope", 404, "not found\n"},
		"missing, head":         {"HEAD /nope", 404, ""},
		"root":                  {"GET /", 404, "not found\n"},
		"up":                    {"GET /b/../../etc/passwd", 404, "not found\n"},
		"up, escaped":           {"GET /%2e%2e/etc/passwd", 404, "not found\n"},
		"control character":     {"GET /a%00b", 404, "not found\n"},
		"long":                  {"GET /" + strings.Repeat("x", 300), 404, "not found\n"},
		"forbidden":             {"GET /secret", 403, "forbidden\n"},
		"failing":               {"GET /broken", 500, "internal server error\n"},
		"other method":          {"DELETE /b/id/boot.ipxe", 405, "method not allowed\n"},
		"post":                  {"POST /b/id/boot.ipxe", 405, "method not allowed\n"},
		"phone with GET":        {"GET /phone/root", 405, "method not allowed\n"},
		"phone":                 {"POST /phone/root", 204, ""},
		"phone, double slash":   {"POST //phone//userland", 204, ""},
		"phone, bad stage":      {"POST /phone/Root", 400, "bad request\n"},
		"phone, no stage":       {"POST /phone/", 405, "method not allowed\n"},
		"phone, deeper":         {"POST /phone/a/b", 400, "bad request\n"},
		"phone, long":           {"POST /phone/" + strings.Repeat("a", 33), 400, "bad request\n"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := s.raw(tc.line + " HTTP/1.1\r\nHost: x\r\n\r\n")
			if resp.StatusCode != tc.status || body != tc.body {
				t.Errorf("status %d %q, want %d %q", resp.StatusCode, body, tc.status, tc.body)
			}
		})
	}
	phoned := map[string]bool{<-s.phoned: true, <-s.phoned: true}
	if !phoned["127.0.0.1 root"] || !phoned["127.0.0.1 userland"] || len(s.phoned) > 0 {
		t.Errorf("phoned %v", phoned)
	}
	resp, _ := s.raw("HEAD /b/id/x.efi HTTP/1.1\r\nHost: x\r\n\r\n")
	for h, want := range map[string]string{
		"Content-Length": "2", "Content-Type": "application/efi", "Accept-Ranges": "bytes",
		"Etag": `"sha256:` + strings.Repeat("0", 63) + `2"`,
	} {
		if got := resp.Header.Get(h); got != want {
			t.Errorf("%s: %q, want %q", h, got, want)
		}
	}
	if resp, _ := s.raw("GET /b/id/x.efi HTTP/1.0\r\n\r\n"); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("HTTP/1.0: status %d, close %v", resp.StatusCode, resp.Close)
	}
	// Headers have a limit.
	if resp, _ := s.raw("GET /nope HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 20<<10) + "\r\n\r\n"); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("20 KiB of header: status %d", resp.StatusCode)
	}
	// So has what a machine sends along when it phones.
	if resp, _ := s.raw("POST /phone/root HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat("y", 10000)); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("10 kB of body: status %d", resp.StatusCode)
	}
}

func TestTransfersAreReported(t *testing.T) {
	file := random(3 << 20)
	s := serve(t, Config{}, map[string][]byte{"disk/f": file, "m": file})
	for _, name := range []string{"disk/f", "m"} {
		n := int64(len(file))
		for what, tc := range map[string]struct {
			header string
			want   *Transfer
		}{
			"all":                {"", &Transfer{Status: 200, Bytes: n, Whole: true}},
			"range of all":       {"Range: bytes=0-\r\n", &Transfer{Status: 206, Bytes: n, Whole: true}},
			"first half":         {"Range: bytes=0-1048575\r\n", &Transfer{Status: 206, Bytes: 1 << 20}},
			"tail":               {"Range: bytes=-5\r\n", &Transfer{Status: 206, Bytes: 5}},
			"beyond the end":     {fmt.Sprintf("Range: bytes=%d-\r\n", n), nil},
			"already there":      {fmt.Sprintf("If-None-Match: \"sha256:%064d\"\r\n", n), nil},
			"resumed":            {fmt.Sprintf("If-Range: \"sha256:%064d\"\r\nRange: bytes=100-\r\n", n), &Transfer{Status: 206, Bytes: n - 100}},
			"changed since":      {"If-Range: \"other\"\r\nRange: bytes=100-\r\n", &Transfer{Status: 200, Bytes: n, Whole: true}},
			"two ranges at once": {"Range: bytes=0-0,5-9\r\n", &Transfer{Status: 206, Bytes: -1}},
		} {
			s.raw("GET /" + name + " HTTP/1.1\r\nHost: x\r\n" + tc.header + "\r\n")
			if tc.want == nil {
				s.quiet()
				continue
			}
			tr := s.next()
			if tc.want.Bytes < 0 { // with multipart headers
				tc.want.Bytes = tr.Bytes
			}
			if tr.Status != tc.want.Status || tr.Bytes != tc.want.Bytes || tr.Whole != tc.want.Whole || tr.Err != nil || tr.Size != n || tr.Name != name {
				t.Errorf("%s %s: %+v", name, what, tr)
			}
		}
		s.raw("HEAD /" + name + " HTTP/1.1\r\nHost: x\r\n\r\n")
		s.quiet()
	}
	s.raw("GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
	if tr := s.next(); tr.Status != 404 || !errors.Is(tr.Err, fs.ErrNotExist) {
		t.Errorf("%+v", tr)
	}
}

func TestBrokenOffTransferIsReported(t *testing.T) {
	file := random(32 << 20)
	s := serve(t, Config{}, map[string][]byte{"disk/f": file, "m": file})
	for _, name := range []string{"disk/f", "m"} {
		c := s.dial()
		c.SetReadBuffer(4096)
		io.WriteString(c, "GET /"+name+" HTTP/1.1\r\nHost: x\r\n\r\n")
		io.ReadFull(c, make([]byte, 10000))
		c.SetLinger(0)
		c.Close()
		if tr := s.next(); tr.Err == nil || tr.Whole || tr.Bytes >= tr.Size {
			t.Errorf("%s: %+v", name, tr)
		}
	}
}

// GRUB's last connection is idle when the machine jumps into the kernel. It must
// not stay behind, or the next boot's SYN from the same port meets it.
func TestIdleConnectionIsReset(t *testing.T) {
	s := serve(t, Config{}, map[string][]byte{"f": random(1000)})
	c := s.dial()
	io.WriteString(c, "GET /f HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	c.CloseWrite()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after FIN on an idle connection: %v, want a reset", err)
	}
}

// A client may close its sending side and still read. A reset would destroy what
// is on its way.
func TestHalfClosedClientGetsEverything(t *testing.T) {
	file := random(4 << 20)
	s := serve(t, Config{}, map[string][]byte{"disk/f": file})
	c := s.dial()
	c.SetReadBuffer(64 << 10)
	io.WriteString(c, "GET /disk/f HTTP/1.1\r\nHost: x\r\n\r\n")
	c.CloseWrite()
	// The server is done, and sees the end of the connection, while the last part
	// still waits in its kernel for room in ours.
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, file) {
		t.Errorf("%d bytes of %d: %v", len(got), len(file), err)
	}
}

func TestConnectionsOfOneClientAreLimited(t *testing.T) {
	s := serve(t, Config{MaxConnsPerClient: 2}, map[string][]byte{"f": []byte("x")})
	for range 2 {
		c := s.dial()
		io.WriteString(c, "GET /f HTTP/1.1\r\nHost: x\r\n\r\n")
		c.Read(make([]byte, 1))
	}
	// The reset may come before the client even knows that it was connected.
	c, err := net.Dial("tcp4", s.addr.String())
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /f HTTP/1.1\r\nHost: x\r\n\r\n")
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes on a third connection", n)
	}
}

func TestConnectionsInAllAreLimited(t *testing.T) {
	s := serve(t, Config{MaxConns: 1}, map[string][]byte{"f": []byte("x")})
	a, b := s.dial(), s.dial()
	for _, c := range []*net.TCPConn{a, b} {
		io.WriteString(c, "GET /f HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	if _, err := a.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	b.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("second connection: %v, want it to wait", err)
	}
	a.Close()
	b.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := b.Read(make([]byte, 1)); err != nil {
		t.Errorf("second connection after the first was closed: %v", err)
	}
}

// A retired socket answers nobody new, finishes what is under way, and closes
// idle connections.
func TestClosedListenerDrains(t *testing.T) {
	file := random(8 << 20)
	s := serve(t, Config{}, map[string][]byte{"disk/f": file})
	c := s.dial()
	c.SetReadBuffer(64 << 10)
	io.WriteString(c, "GET /disk/f HTTP/1.1\r\nHost: x\r\n\r\n")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.ln.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, file) {
		t.Errorf("%d bytes of %d: %v", len(got), len(file), err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	s.ended = nil
}

func TestEndBreaksOffAfterGrace(t *testing.T) {
	s := serve(t, Config{Grace: 50 * time.Millisecond}, map[string][]byte{"m": random(32 << 20)})
	c := s.dial()
	c.SetReadBuffer(4096)
	io.WriteString(c, "GET /m HTTP/1.1\r\nHost: x\r\n\r\n")
	io.ReadFull(c, make([]byte, 1000))
	s.stop()
	if tr := s.next(); tr.Err == nil {
		t.Errorf("%+v", tr)
	}
}

// EDK2 asks with HEAD how large a file is, and resets that connection instead of
// closing it: before the answer, or after it. That is no failed transfer, and the GET
// on the next connection gets the file.
func TestHeadThenResetThenGet(t *testing.T) {
	file := random(300_000)
	s := serve(t, Config{}, map[string][]byte{"disk/x.efi": file})
	for _, wait := range []bool{true, false} {
		head := s.dial()
		io.WriteString(head, "HEAD /disk/x.efi HTTP/1.1\r\nHost: 10.0.0.1\r\nAccept: */*\r\nUser-Agent: UefiHttpBoot/1.0\r\n\r\n")
		if wait {
			resp, err := http.ReadResponse(bufio.NewReader(head), &http.Request{Method: "HEAD"})
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 200 || resp.ContentLength != int64(len(file)) || resp.Header.Get("Content-Type") != "application/efi" {
				t.Errorf("%d, %d bytes, %v", resp.StatusCode, resp.ContentLength, resp.Header)
			}
		}
		head.SetLinger(0)
		head.Close()
		resp, body := s.raw("GET /disk/x.efi HTTP/1.1\r\nHost: 10.0.0.1\r\nAccept: */*\r\nUser-Agent: UefiHttpBoot/1.0\r\n\r\n")
		if resp.StatusCode != 200 || body != string(file) {
			t.Errorf("%d, %d bytes", resp.StatusCode, len(body))
		}
		if tr := s.next(); !tr.Whole || tr.Err != nil || tr.Bytes != int64(len(file)) || tr.File == nil {
			t.Errorf("%+v", tr)
		}
		s.quiet()
	}
}
