package tftp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A file that takes long to open keeps nobody else waiting, is opened once however
// often it is asked for meanwhile, and is sent as the client asked.
func TestSlowFilesKeepNobodyWaiting(t *testing.T) {
	file := random(5000)
	gate, opening := make(chan struct{}), make(chan Request, 10)
	var opened atomic.Int32
	s := serve(t, "127.0.0.1:0", Config{
		Timeout: time.Second,
		Slow:    func(name string) bool { return strings.HasPrefix(name, "slow/") },
		Open: func(r Request) (File, error) {
			if strings.HasPrefix(r.Name, "slow/") {
				opened.Add(1)
				opening <- r
				<-gate
			}
			if r.Name == "slow/broken" {
				return nil, errors.New("disk on fire")
			}
			return nil, nil
		},
	}, map[string][]byte{"slow/f": file, "fast": file, "slow/text": []byte("a\nb\rc"), "slow/large": random(2 << 20)})

	slow := dial(t, s.addr)
	for range 3 {
		slow.send(rrq("slow/f", "octet", "blksize", "1432", "tsize", "0"))
	}
	if r := <-opening; r.Options != "blksize=1432 tsize=0" || r.Client.Port() == 0 {
		t.Errorf("%+v", r)
	}
	fast := dial(t, s.addr)
	fast.send(rrq("fast", "octet"))
	if got := fast.receive(512, 1, nil); !bytes.Equal(got, file) {
		t.Error("wrong bytes")
	}
	s.next()
	others := map[string]*client{}
	for name, req := range map[string][]byte{
		"window": rrq("slow/f", "octet", "windowsize", "4"), "text": rrq("slow/text", "netascii"), "large": rrq("slow/large", "netascii"),
		"missing": rrq("slow/missing", "octet"), "broken": rrq("slow/broken", "octet"),
	} {
		others[name] = dial(t, s.addr)
		others[name].send(req)
		<-opening
	}
	if n := opened.Load(); n != 6 {
		t.Errorf("%d files opened, want each once", n)
	}
	close(gate)

	slow.wantOACK("blksize\x001432\x00tsize\x005000\x00")
	slow.ack(0)
	if got := slow.receive(1432, 1, nil); !bytes.Equal(got, file) {
		t.Error("wrong bytes")
	}
	others["window"].wantOACK("windowsize\x004\x00")
	others["window"].ack(0)
	if got := others["window"].receive(512, 4, nil); !bytes.Equal(got, file) {
		t.Error("wrong bytes in windows")
	}
	if got := others["text"].receive(512, 1, nil); string(got) != "a\r\nb\r\x00c" {
		t.Errorf("text: %q", got)
	}
	for name, want := range map[string]string{"missing": "file not found", "broken": "internal error", "large": "as text"} {
		if op, _, data := others[name].read(); op != opERROR || !strings.Contains(string(data), want) {
			t.Errorf("%s: opcode %d %q", name, op, data)
		}
	}
	for range 6 {
		tr := s.next()
		bad := tr.Name == "slow/missing" || tr.Name == "slow/broken" || tr.Name == "slow/large"
		if (tr.Err != nil) != bad || (tr.File == nil) != (tr.Name == "slow/missing" || tr.Name == "slow/broken") {
			t.Errorf("%+v", tr)
		}
	}
}

// Requests for slow files are bounded like all others.
func TestSlowFilesAreBounded(t *testing.T) {
	gate, opening := make(chan struct{}), make(chan string, 100)
	s := serve(t, "127.0.0.1:0", Config{
		MaxTransfersPerClient: 4,
		Slow:                  func(string) bool { return true },
		Open: func(r Request) (File, error) {
			opening <- r.Name
			<-gate
			return nil, errors.New("no")
		},
	}, nil)
	c := dial(t, s.addr)
	for i := range 50 {
		c.send(rrq(fmt.Sprintf("f%d", i), "octet"))
	}
	for range 4 {
		<-opening
	}
	if n := s.Active(); n != 4 {
		t.Errorf("%d at once", n)
	}
	close(gate)
	for range 4 {
		s.next()
	}
}
