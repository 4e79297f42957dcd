package bootloader

import (
	"fmt"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Of two generations, what is the same is in memory once; what differs, be it only by
// the line that it is due to, is not taken over.
func TestGenerationsShareWhatIsTheSame(t *testing.T) {
	b := newBench(t)
	fleet := func(edited int) *schema.Desired {
		d := site()
		d.Hosts = nil
		for i := range 20 {
			a := addr("host", "", "ws")
			a.Key = fmt.Sprintf("%02d", i)
			h := &schema.Host{Meta: meta(a, 100), MAC: fmt.Sprintf("52:54:00:00:01:%02x", i), Subnet: lan, Args: []string{fmt.Sprintf("seat=%d", i)}}
			if i == edited {
				h.Args = []string{"seat=other"}
			}
			d.Hosts = append(d.Hosts, h)
		}
		return d
	}
	made := func(d *schema.Desired, earlier ...*table) *table {
		t.Helper()
		tab, err := compile(t.Context(), b.input(d), b.loaders, earlier)
		if err != nil {
			t.Fatal(err)
		}
		return tab
	}
	shared := func(a, b *table) (n int) {
		for key, offers := range a.offers {
			if b.offers[key][0] == offers[0] && a.outputs[menu].Trees[key] == b.outputs[menu].Trees[key] {
				n++
			}
		}
		return n
	}
	first := made(fleet(-1))
	if n := shared(first, made(fleet(7), first)); n != 20 { // and machines without a block
		t.Errorf("%d of 20 ways to boot are shared", n)
	}
	d := fleet(-1)
	d.Entries[0].Meta.Range.Line++
	moved := made(d, first)
	if n := shared(first, moved); n != 0 {
		t.Errorf("%d ways to boot are due to a line that is another now", n)
	}
	key := provider.TreeKey{Host: fleet(-1).Hosts[0].Addr, Subnet: lan}
	if first.offers[key][0].tree != moved.offers[key][0].tree {
		t.Error("the same tree is there twice")
	}
}
