package bootloader

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/bootloader/httpboot"
	"github.com/dlreconcile/dlreconcile/providers/bootloader/tftp"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
)

// openFile is a file that is being sent. It is a tftp.File and an httpboot.File.
type openFile struct {
	*file
	tree  string // the id of the file's tree; for an alias, of the one that it leads into
	bytes string
	blob  *blob.File // nil: bytes is all
	// damaged, when not nil, says why the blob must not be served; then blob is nil.
	damaged error
	asked   time.Time // when the client had asked for it, and was known
}

func (o *openFile) ReadAt(p []byte, off int64) (int, error) {
	if o.blob == nil {
		return strings.NewReader(o.bytes).ReadAt(p, off)
	}
	return o.blob.ReadAt(p, off)
}

func (o *openFile) Size() int64    { return o.size }
func (o *openFile) Digest() string { return o.digest }

func (o *openFile) OSFile() *os.File {
	if o.blob == nil {
		return nil
	}
	return o.blob.OSFile()
}

func (o *openFile) Release() {
	switch {
	case o.blob != nil:
		o.blob.Release()
	case o.made != nil:
		o.made.release()
	}
}

// usable gives o, or why it must not be served.
func (o *openFile) usable() (*openFile, error) {
	if o.damaged != nil {
		return nil, o.damaged
	}
	return o, nil
}

// open gives the file at path of a tree, from whichever generation has it.
func (p *Provider) open(id, name string) (*openFile, error) {
	for {
		pub := p.pub.Load()
		for _, t := range pub.ByGen {
			if of := t.open(id, name); of != nil {
				return of.usable()
			}
		}
		if p.pub.Load() == pub {
			return nil, fmt.Errorf("%s: %w", root+id+"/"+name, fs.ErrNotExist)
		}
	}
}

// fetch gives the file that a client asks for.
func (p *Provider) fetch(a asked) (*openFile, error) {
	if id, name, ok := split(a.name); ok {
		return p.open(id, name)
	}
	return p.openAlias(a)
}

// slow says for which names fetch may take its time: the disk is waited for where a
// session begins, and what is generated is made.
func slow(name string) bool {
	_, _, ok := split(name)
	return !ok || path.Base(name) == machineName
}

func (p *Provider) openTFTP(r tftp.Request) (tftp.File, error) {
	of, err := p.fetch(asked{from: r.Client.Addr(), name: r.Name, byIPXE: strings.HasPrefix(r.Options, optionsIPXE)})
	p.sentTFTP.opened(err)
	if err != nil {
		return nil, err
	}
	of.asked = p.now()
	return of, nil
}

func (p *Provider) openHTTP(r httpboot.Request) (httpboot.File, error) {
	of, err := p.fetch(asked{from: r.Client.Addr(), name: r.Name, byIPXE: strings.HasPrefix(r.Agent, agentIPXE)})
	p.sentHTTP.opened(err)
	if err != nil {
		return nil, err
	}
	of.asked = p.now()
	return of, nil
}

func (p *Provider) doneTFTP(tr tftp.Transfer) {
	if tr.Probe {
		p.sentTFTP.ended(tr.Bytes, nil) // the size was all it wanted
		return
	}
	of, _ := tr.File.(*openFile)
	if of != nil {
		p.sentTFTP.ended(tr.Bytes, tr.Err)
	}
	p.delivered("tftp", tr.Client.Addr(), tr.Name, of, tr.Bytes, tr.Err)
}

func (p *Provider) doneHTTP(tr httpboot.Transfer) {
	of, _ := tr.File.(*openFile)
	if of != nil {
		p.sentHTTP.ended(tr.Bytes, tr.Err)
	}
	if !tr.Whole && tr.Err == nil {
		return // a part, as it was asked for
	}
	p.delivered("http", tr.Client.Addr(), tr.Name, of, tr.Bytes, tr.Err)
}

// delivered reports one file; of is nil when there was none. What unknown clients ask
// for in vain is not told: anybody could fill the record with it.
func (p *Provider) delivered(protocol string, addr netip.Addr, name string, of *openFile, n int64, err error) {
	ev := provider.Event{Kind: provider.EventFile, Addr: addr, Protocol: protocol, Name: name, Bytes: n}
	if of != nil {
		ev.Tree, ev.Role, ev.Asked = of.tree, of.role, of.asked
	} else if id, _, ok := split(name); ok {
		ev.Tree = id
	}
	if err != nil {
		ev.Kind, ev.Err = provider.EventFileError, err.Error()
	}
	known := p.event(ev, ev.Role == "")
	p.log.Debug("file", "protocol", protocol, "client", addr, "name", name, "bytes", n, "known", known, "err", err)
}

// phone reports what a machine says about itself.
func (p *Provider) phone(client netip.AddrPort, stage string) {
	p.event(provider.Event{Kind: provider.EventPhone, Addr: client.Addr(), Protocol: "http", Name: stage}, false)
}

// event tells the sink, with what is known about the client. With onlyKnown,
// nothing is told about a client that is not.
func (p *Provider) event(ev provider.Event, onlyKnown bool) (known bool) {
	ev.At = p.now()
	if p.clients != nil {
		var c provider.Client
		if c, known = p.clients.ByAddr(ev.Addr); known {
			ev.MAC, ev.Host, ev.Subnet, ev.Generation = c.MAC, c.Host, c.Subnet, c.Generation
		}
	}
	if ev.Generation == 0 {
		ev.Generation = p.pub.Load().Current
	}
	if t, ok := p.pub.Load().Of(ev.Generation); ok && known && ev.Subnet.IsZero() {
		key, _, _ := t.key(provider.Query{Address: ev.Addr}) // all that is known is the address
		ev.Subnet = key.Subnet
	}
	if p.sink != nil && (known || !onlyKnown) {
		p.sink.Event(ev)
	}
	return known
}
