package nbd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	gonbd "github.com/pojntfx/go-nbd/pkg/server"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
)

// The test binary is also the processes of the benchmark: servers, whose processor
// time and memory is theirs alone, and the client.
const roleVariable = "DLRECONCILE_TEST_NBD_ROLE"

// play is the main function of a process with a role.
func play(role string, args []string) int {
	roles := map[string]func([]string) error{
		"sealed": playSealed, "half cold": playHalfCold, "overlay": playOverlay, "go-nbd": playGoNBD, "load": playLoad,
	}
	f, ok := roles[role]
	if !ok {
		f = func([]string) error { return fmt.Errorf("no role %q", role) }
	}
	if err := f(args); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

// stand serves exports until its input ends, and says what it cost so far whenever it
// is given a line.
func stand(h Handler) error {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := New(h, Limits{PerAddress: 4096}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	fmt.Println(ln.Addr().(*net.TCPAddr).Port)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if err := json.NewEncoder(os.Stdout).Encode(standing{m.Mallocs}); err != nil {
			return err
		}
	}
	cancel()
	err = <-ended
	s.Wait()
	return err
}

// standing is what a server of ours says of itself.
type standing struct {
	Mallocs uint64
}

// sealedDisk is a read-only backend, as the provider has it.
type sealedDisk struct{ *blob.File }

func (s sealedDisk) Size() (int64, error)             { return s.Blob.Size, nil }
func (sealedDisk) WriteAt([]byte, int64) (int, error) { return 0, syscall.EROFS }
func (sealedDisk) Sync() error                        { return nil }

func openSealed(path string) (sealedDisk, error) {
	st, err := os.Stat(path)
	if err != nil {
		return sealedDisk{}, err
	}
	c := blob.NewCache(func(provider.Blob) (*os.File, error) { return os.Open(path) })
	f, err := c.Get(provider.Blob{Digest: "sha256:bench", Size: st.Size()})
	return sealedDisk{f}, err
}

// playSealed serves FILE read-only under any name.
func playSealed(args []string) error {
	d, err := openSealed(args[0])
	if err != nil {
		return err
	}
	defer d.Release()
	return stand(each(func(name string) (Export, error) {
		return Export{Info: Info{Name: name, Size: d.Blob.Size, ReadOnly: true, MultiConn: true}, Backend: d}, nil
	}))
}

// coldPage is how long the disk of halfCold takes.
const coldPage = 20 * time.Millisecond

// halfCold is a sealed disk whose odd pages are always cold.
type halfCold struct{ sealedDisk }

func (halfCold) isCold(off int64, n int) bool { return off/4096%2 == 1 || off%4096+int64(n) > 4096 }

func (d halfCold) Lend(off int64, n int) ([]byte, *os.File) {
	if d.isCold(off, n) {
		return nil, nil
	}
	return d.File.Lend(off, n)
}

func (d halfCold) ReadNow(p []byte, off int64) bool {
	return !d.isCold(off, len(p)) && d.File.ReadNow(p, off)
}

func (d halfCold) Fetch(off, n int64) error {
	if d.isCold(off, int(n)) {
		<-time.After(coldPage)
	}
	return d.File.Fetch(off, n)
}

// playHalfCold serves FILE as if half of its pages were never in memory.
func playHalfCold(args []string) error {
	d, err := openSealed(args[0])
	if err != nil {
		return err
	}
	defer d.Release()
	return stand(each(func(name string) (Export, error) {
		return Export{Info: Info{Name: name, Size: d.Blob.Size, ReadOnly: true, MultiConn: true}, Backend: halfCold{d}}, nil
	}))
}

// playOverlay serves FILE with an overlay in DIR for each name.
func playOverlay(args []string) error {
	d, err := openSealed(args[0])
	if err != nil {
		return err
	}
	defer d.Release()
	store, err := cow.OpenStore(args[1], cow.Config{})
	if err != nil {
		return err
	}
	base := cow.Base{Digest: d.Digest, Size: d.Blob.Size}
	return stand(each(func(name string) (Export, error) {
		o, err := store.Open(cow.Key{Machine: "bench", Instance: "boot-" + name, Export: "x"}, base, d.File, nil)
		if err != nil {
			return Export{}, err
		}
		return Export{Info: Info{Name: name, Size: d.Blob.Size, Zeroes: true}, Backend: o, Detached: func(Stats) { o.Close() }}, nil
	}))
}

// each is a Handler that has every name.
type each func(name string) (Export, error)

func (each) List(context.Context, Peer) []Listed { return nil }

func (e each) Info(_ context.Context, _ Peer, name string) (Info, error) {
	x, err := e(name)
	if err == nil && x.Detached != nil {
		x.Detached(Stats{})
	}
	return x.Info, err
}

func (e each) Open(_ context.Context, _ Peer, name string) (Export, error) { return e(name) }

// playGoNBD serves FILE with go-nbd's own server, as its examples do.
func playGoNBD(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr().(*net.TCPAddr).Port)
	go func() { // ends with the process
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = gonbd.Handle(c, []*gonbd.Export{{Backend: plainFile{f}}}, &gonbd.Options{ReadOnly: true})
			}()
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println("{}")
	}
	return nil
}

type plainFile struct{ *os.File }

func (f plainFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
