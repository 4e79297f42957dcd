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
