package nbd

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pipe is a client that allocates nothing.
type pipe struct {
	c    *client
	wire []byte
	in   []byte
}

func (p *pipe) round() error {
	if _, err := p.c.nc.Write(p.wire); err != nil {
		return err
	}
	_, err := io.ReadFull(p.c.nc, p.in)
	return err
}

// Once warm, requests cost no allocation.
func TestNoAllocationPerRequest(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("the race detector allocates")
	}
	path := filepath.Join(t.TempDir(), "image")
	b := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{4}).Read(b[:3<<20])
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b[:3<<20]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(4<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	sealed, err := openSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sealed.Release)
	store := openOverlays(t, sealed)
	for _, c := range []struct {
		name  string
		form  form
		typ   uint16
		off   uint64
		n     uint32
		reply int // bytes, without payload
		back  any
	}{
		{"lent", simple, 0, 8192, 4096, 16, sealed},
		{"lent, structured", structured, 0, 8192, 4096, 28, sealed},
		{"lent, extended", extended, 0, 8192, 4096, 40, sealed},
		{"hole", simple, 0, 3<<20 + 8192, 4096, 16, sealed},
		{"long", simple, 0, 0, 256 << 10, 16, sealed},
		{"clean range of an overlay", simple, 0, 8192, 4096, 16, store.overlay},
		{"clean range of an overlay, structured", structured, 0, 8192, 4096, 28, store.overlay},
		{"written range of an overlay", simple, 0, 1 << 20, 4096, 16, store.overlay},
		{"written again", simple, 1, 1 << 20, 4096, 16, store.overlay},
		{"without hints", simple, 0, 8192, 4096, 16, newDisk(4 << 20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newShelf()
			h.exports["x"] = Export{Info: Info{Name: "x", Size: 4 << 20}, Backend: c.back.(backendOf)}
			cl := serve(t, h, Limits{})()
			if c.form == simple {
				cl.attach("x")
			} else {
				cl.choose(c.form, "x")
			}
			cl.nc.SetDeadline(time.Time{})
			const depth = 16
			p := &pipe{c: cl}
			for i := range uint64(depth) {
				p.wire = append(p.wire, c.form.ask(0, c.typ, i, c.off, uint64(c.n))...)
				if c.typ == 1 {
					p.wire = append(p.wire, make([]byte, c.n)...)
				}
			}
			p.in = make([]byte, depth*c.reply)
			if c.typ == 0 {
				p.in = make([]byte, depth*(c.reply+int(c.n)))
			}
			for range 20 { // warm
				if err := p.round(); err != nil {
					t.Fatal(err)
				}
			}
			const rounds = 200
			n := testing.AllocsPerRun(rounds, func() {
				if err := p.round(); err != nil {
					t.Fatal(err)
				}
			})
			// A garbage collection empties the pools; one in a while is none per request.
			if n >= 1 {
				t.Errorf("%.2f allocations for %d requests", n, depth)
			}
		})
	}
}
