package bootloader

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/bootloader/httpboot"
	"github.com/dlreconcile/dlreconcile/providers/bootloader/tftp"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
)

// openFile is a file that is being sent. It is a tftp.File and an httpboot.File.
type openFile struct {
	*file
	blob *blob.File // nil for text
}

func (o *openFile) ReadAt(p []byte, off int64) (int, error) {
	if o.blob == nil {
		return strings.NewReader(o.text).ReadAt(p, off)
	}
	return o.blob.ReadAt(p, off)
}

func (o *openFile) Size() int64    { return o.size }
func (o *openFile) Digest() string { return o.digest }

func (o *openFile) OSFile() *os.File {
	if o.blob == nil {
		return nil
	}
	return o.blob.File
}

func (o *openFile) Release() {
	if o.blob != nil {
		o.blob.Release()
	}
}

// open gives the file at path, from whichever generation has it.
func (p *Provider) open(path string) (*openFile, error) {
	id, name, ok := split(path)
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	for {
		pub := p.pub.Load()
		for _, t := range pub.ByGen {
			if of, found := t.open(id, name); of != nil {
				return of, nil
			} else if found {
				continue // retired a moment ago
			}
		}
		if p.pub.Load() == pub {
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
	}
}

// role says what the file at path is for; "" when there is none.
func (p *Provider) role(path string) (id string, role provider.AnswerKind) {
	id, name, ok := split(path)
	if !ok {
		return "", ""
	}
	for _, t := range p.pub.Load().ByGen {
		if tr := t.trees[id]; tr != nil {
			if f := tr.file(name); f != nil {
				return id, f.role
			}
		}
	}
	return id, ""
}

func (p *Provider) openTFTP(_ netip.AddrPort, name string) (tftp.File, error) {
	of, err := p.open(name)
	if err != nil {
		return nil, err
	}
	return of, nil
}

func (p *Provider) openHTTP(_ netip.AddrPort, name string) (httpboot.File, error) {
	of, err := p.open(name)
	if err != nil {
		return nil, err
	}
	return of, nil
}

func (p *Provider) doneTFTP(tr tftp.Transfer) {
	if tr.Probe {
		return
	}
	p.delivered("tftp", tr.Client.Addr(), tr.Name, tr.Bytes, tr.Err)
}

func (p *Provider) doneHTTP(tr httpboot.Transfer) {
	if !tr.Whole && tr.Err == nil {
		return // a part, as it was asked for
	}
	p.delivered("http", tr.Client.Addr(), tr.Name, tr.Bytes, tr.Err)
}

// delivered reports one file. What unknown clients ask for in vain is not told:
// anybody could fill the record with it.
func (p *Provider) delivered(protocol string, addr netip.Addr, name string, n int64, err error) {
	ev := provider.Event{Kind: provider.EventFile, Addr: addr, Protocol: protocol, Name: name, Bytes: n}
	ev.Tree, ev.Role = p.role(name)
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
	if p.sink != nil && (known || !onlyKnown) {
		p.sink.Event(ev)
	}
	return known
}
