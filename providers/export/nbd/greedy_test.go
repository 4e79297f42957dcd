package nbd

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// 200 clients that announce 32 MiB each, and give the half of a first piece: little
// memory, and others are served. They end when their time is over.
func TestWritersThatNeverWrite(t *testing.T) {
	h := testShelf()
	h.add("w", newDisk(32<<20), Info{})
	dial := serve(t, crowd(h), Limits{PerAddress: 1000, Stall: 3 * time.Second})
	check := bystander(t, dial())
	before := measure(t)
	var idle []*client
	for i := range 200 {
		cl := dial()
		cl.attach("w")
		cl.send(request(0, 1, uint64(i), 0, 32<<20), make([]byte, 30<<10))
		idle = append(idle, cl)
	}
	check()
	before.within(t, 60<<20)
	for _, cl := range idle {
		cl.wantClosed()
	}
	check()
}

// cutOff is where, in the middle of a page.
const cutOff = 5000

// A sealed file that is cut off while eight clients read all of it, cold pages and warm
// ones: each gets right bytes, an error or its connection closed. Who reads another file
// has its bytes, all the while.
func TestFileTruncatedWhileItIsRead(t *testing.T) {
	const size, piece, readers = 16 << 20, 256 << 10, 8
	path := filepath.Join(t.TempDir(), "cut")
	want := make([]byte, size)
	rand.NewChaCha8([32]byte{13}).Read(want)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	sealed, err := openSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sealed.Release)
	h := testShelf()
	h.exports["cut"] = Export{Info: Info{Name: "cut", Size: size, ReadOnly: true}, Backend: sealed}
	dial := serve(t, crowd(h), Limits{})
	check := bystander(t, dial())
	under := make(chan struct{}, readers) // each is well into the file
	ended := make(chan string, readers)
	for range readers {
		cl := dial()
		cl.attach("cut")
		go func() { ended <- readUntilItEnds(cl, want, piece, under) }()
	}
	for range readers {
		<-under
	}
	check()
	if err := os.Truncate(path, cutOff); err != nil {
		t.Fatal(err)
	}
	for range readers {
		if wrong := receive(t, ended); wrong != "" {
			t.Error(wrong)
		}
	}
	check()
	again := dial()
	again.attach("cut")
	again.send(request(0, 0, 1, 0, 4096), request(0, 0, 2, 8<<20, piece))
	again.wantReply(0, 1)
	if !bytes.Equal(again.recv(4096), want[:4096]) {
		t.Error("what is left of the file has other bytes")
	}
	check()
}

// readUntilItEnds reads a file round and round, and says what is wrong with its bytes.
// It ends with an error, or the connection.
func readUntilItEnds(cl *client, want []byte, piece int, under chan<- struct{}) string {
	for i := 0; ; i++ {
		off := i * piece % len(want)
		if _, err := cl.nc.Write(request(0, 0, uint64(i), uint64(off), uint32(piece))); err != nil {
			return ""
		}
		b := make([]byte, replySize+piece)
		if _, err := io.ReadFull(cl.in, b[:replySize]); err != nil {
			return closed(err)
		}
		if b[7] != 0 { // the errno
			return ""
		}
		if _, err := io.ReadFull(cl.in, b[replySize:]); err != nil {
			return closed(err)
		}
		// What was cut off may be zeros, and nobody can tell: the kernel clears the rest of
		// a folio, which can be many pages, while parts of it are on their way.
		for k, got := range b[replySize:] {
			if at := off + k; got != want[at] && (got != 0 || at < cutOff) {
				return fmt.Sprintf("%#x at %d, want %#x", got, at, want[at])
			}
		}
		if i == 10 {
			under <- struct{}{}
		}
	}
}

func closed(err error) string {
	if t, ok := err.(net.Error); ok && t.Timeout() {
		return "neither an answer nor an end"
	}
	return ""
}
