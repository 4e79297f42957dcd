package source

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/source/sourcetest"
)

// endlessServer is a server that has one thing to say, over and over again.
type endlessServer struct {
	again   string // what it says; NNNNNNNN is another number each time
	refs    bool   // in the place of the list of refs; else before a pack
	tip     string
	written atomic.Int64
}

func (e *endlessServer) forever(w io.Writer) {
	out := bufio.NewWriterSize(w, 64<<10)
	for i := 0; ; i++ {
		n, err := out.WriteString(strings.Replace(e.again, "NNNNNNNN", fmt.Sprintf("%08d", i), 1))
		if e.written.Add(int64(n)); err != nil {
			return
		}
	}
}

func (e *endlessServer) list(w io.Writer) {
	_, _ = io.WriteString(w, pkt(e.tip+" HEAD\x00agent=x symref=HEAD:refs/heads/main\n"))
	if e.refs {
		e.forever(w)
	}
	_, _ = io.WriteString(w, pkt(e.tip+" refs/heads/main\n")+"0000")
}

func (e *endlessServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/info/refs") {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		_, _ = io.WriteString(w, "001e# service=git-upload-pack\n0000")
		e.list(w)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	e.forever(w)
}

// took answers a connection as git-daemon(1) would.
func (e *endlessServer) took(conn net.Conn) bool {
	in := bufio.NewReader(conn)
	for _, end := range []string{"\x00", "done\n"} { // the request, and what is wanted
		for read := ""; !strings.HasSuffix(read, end); {
			b, err := in.ReadByte()
			if err != nil {
				return true
			}
			read += string(b)
		}
		if end == "\x00" {
			e.list(conn)
		}
	}
	e.forever(conn)
	return true
}

// A server that never ends what this process holds all of is not listened to for ever,
// and costs little memory.
func TestEndlessServer(t *testing.T) {
	const tip = "4f932c6fc4ed4f932c6fc4ed4f932c6fc4ed4f93"
	for name, c := range map[string]struct {
		refs  bool
		again string
		most  int64 // MiB of memory
		says  string
	}{
		"short refs": {true, pkt(tip + " refs/NNNNNNNN\n"), 112, "list of refs"},
		"long refs":  {true, pkt(tip + " refs/NNNNNNNN" + strings.Repeat("x", 60_000) + "\n"), 112, "list of refs"},
		"acks":       {false, pkt("ACK " + tip + " PACK\n"), 64, "in common"},
		"naks":       {false, pkt("NAK\n"), 64, "in common"},
	} {
		for _, wire := range []string{"http", "git"} {
			t.Run(name+" over "+wire, func(t *testing.T) {
				e := &endlessServer{again: c.again, refs: c.refs, tip: tip}
				repo := ""
				if wire == "git" {
					folder, _ := sourcetest.Daemon(t, t.TempDir(), e.took)
					repo = folder + "/site.git"
				} else {
					srv := httptest.NewServer(e)
					defer srv.Close()
					repo = srv.URL + "/site.git"
				}
				got := followElsewhere(t, repo)
				if !strings.Contains(got.Err, ErrLimit.Error()) || !strings.Contains(got.Err, c.says) {
					t.Errorf("%s", got.Err)
				}
				if n := e.written.Load(); n > maxAdvertised+24<<20 {
					t.Errorf("%d bytes were taken", n)
				}
				t.Logf("%d MiB of memory: %s", got.Peak>>20, got.Err)
				if got.Peak > c.most<<20 {
					t.Errorf("%d MiB of memory, want at most %d", got.Peak>>20, c.most)
				}
			})
		}
	}
}

// The lines before a pack are passed on as they are, in whatever pieces they are read.
func TestAcksArePassedOn(t *testing.T) {
	ack := pkt("ACK 4f932c6fc4ed4f932c6fc4ed4f932c6fc4ed4f93\n")
	for _, whole := range []string{"", "0008NAK\nPACK\x00", ack + ack + "0008NAK\n" + strings.Repeat("PACK", 9000), "0000", "00", "zzzzACK", "0003ACK"} {
		for _, size := range []int{1, 3, 7, 64, 1 << 20} {
			r := newBoundAcks(strings.NewReader(whole))
			var got strings.Builder
			if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{r}, make([]byte, size)); err != nil || got.String() != whole {
				t.Errorf("%.20q in pieces of %d: %.20q, %v", whole, size, got.String(), err)
			}
		}
	}
	r := newBoundAcks(strings.NewReader(strings.Repeat(ack, maxAcks/len(ack)+1)))
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, ErrLimit) || n > maxAcks {
		t.Error(fmt.Sprint(n), err)
	}
}

// A server's own words go into the status and the log: they are cut, and printable.
func TestWhatAServerSaysIsCut(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		_, _ = io.WriteString(w, "001e# service=git-upload-pack\n0000"+pkt("ERR \x1b[2J\u202e"+strings.Repeat("word \n", 10_000)))
	}))
	defer srv.Close()
	s := mustOpen(t, Config{Repo: srv.URL, Mirror: t.TempDir()})
	_, err := s.Tip(t.Context())
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "word word") {
		t.Fatal(err)
	}
	if text := err.Error(); len(text) > 2*maxSaid || strings.ContainsAny(text, "\x1b\u202e\n") {
		t.Errorf("%q", text)
	}
}

// FuzzAcks reads answers that mean harm: what is passed on is what came.
func FuzzAcks(f *testing.F) {
	f.Add([]byte("0008NAK\nPACK"), uint16(3))
	f.Add([]byte("ffffACK"), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		var got strings.Builder
		_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{newBoundAcks(strings.NewReader(string(data)))}, make([]byte, int(size)+1))
		if err != nil && !errors.Is(err, ErrLimit) || err == nil && got.String() != string(data) {
			t.Errorf("%q: %q, %v", data, got.String(), err)
		}
	})
}
