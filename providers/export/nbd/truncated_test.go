package nbd

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// A sealed file that is cut off under its mapping ends a connection, or is an error,
// and nothing else: the server goes on, with other files and with this one.
func TestFileTruncatedUnderTheMap(t *testing.T) {
	for _, n := range []uint32{tier, 2 * fromFile} { // from memory, from the file
		t.Run(fmt.Sprint(n), func(t *testing.T) { truncatedUnderTheMap(t, n) })
	}
}

func truncatedUnderTheMap(t *testing.T, n uint32) {
	const size = 8 << 20
	at := uint64(size - n)
	dir := t.TempDir()
	h := newShelf()
	var paths []string
	for _, name := range []string{"cut", "whole"} {
		path := filepath.Join(dir, name)
		b := make([]byte, size)
		rand.NewChaCha8([32]byte{3}).Read(b)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := openSealed(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Release)
		err = d.Fetch(0, size)
		if b, _ := d.Lend(int64(at), int(n)); err != nil || len(b) != int(n) {
			t.Fatalf("fetched, and %d bytes lent: %v", len(b), err)
		}
		h.exports[name] = Export{Info: Info{Name: name, Size: size, ReadOnly: true}, Backend: d}
		paths = append(paths, path)
	}
	dial := serve(t, h, Limits{})
	victim, other := dial(), dial()
	victim.attach("cut")
	other.attach("whole")
	victim.send(request(0, 0, 1, at, n))
	victim.wantReply(0, 1)
	victim.recv(int(n))
	if err := os.Truncate(paths[0], tier); err != nil {
		t.Fatal(err)
	}
	victim.send(request(0, 0, 2, at, n))
	if b, err := io.ReadAll(victim.in); err != nil || len(b) > replySize { // it was begun, or not
		t.Errorf("%d more bytes, %v", len(b), err)
	}
	if s := receive(t, h.detached); !errors.Is(s.Err, errFault) {
		t.Errorf("ended with %v", s.Err)
	}
	other.send(request(0, 0, 1, at, n))
	other.wantReply(0, 1)
	other.recv(int(n))

	again := dial()
	again.attach("cut")
	again.send(request(0, 0, 3, 0, tier))
	again.wantReply(0, 3) // what is left of it
	again.recv(tier)
}

// waiting is a sealed disk whose first bytes are read when the gate opens.
type waiting struct {
	sealedDisk
	begun, gate chan struct{}
}

func (d waiting) Lend(off int64, n int) ([]byte, *os.File) {
	if off < 64<<10 {
		return nil, nil
	}
	return d.File.Lend(off, n)
}

func (d waiting) ReadNow(b []byte, off int64) bool {
	return off >= 64<<10 && d.File.ReadNow(b, off)
}

func (d waiting) Fetch(off, n int64) error {
	if off < 64<<10 {
		close(d.begun)
		<-d.gate
	}
	return d.File.Fetch(off, n)
}

// A reply that waits for the disk while another one is cut off is not what that one
// lacks.
func TestNothingFollowsAReplyThatWasCutOff(t *testing.T) {
	const size, at = 8 << 20, 4 << 20
	path := filepath.Join(t.TempDir(), "cut")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	sealed, err := openSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sealed.Release)
	d := waiting{sealed, make(chan struct{}), make(chan struct{})}
	if err := d.File.Fetch(at, 2*fromFile); err != nil {
		t.Fatal(err)
	}
	if b, _ := d.Lend(at, 2*fromFile); len(b) != 2*fromFile {
		t.Fatal("nothing is lent")
	}
	h := newShelf()
	h.exports["cut"] = Export{Info: Info{Name: "cut", Size: size, ReadOnly: true}, Backend: d}
	c := serve(t, h, Limits{})()
	c.attach("cut")
	c.send(request(0, 0, 7, 0, tier))
	<-d.begun
	if err := os.Truncate(path, 64<<10); err != nil {
		t.Fatal(err)
	}
	c.send(request(0, 0, 8, at, 2*fromFile))
	c.wantReply(0, 8)
	close(d.gate)
	if b, err := io.ReadAll(c.in); len(b) != 0 {
		t.Errorf("%d bytes more, %v", len(b), err)
	}
	if s := receive(t, h.detached); !errors.Is(s.Err, errFault) {
		t.Errorf("ended with %v", s.Err)
	}
}
