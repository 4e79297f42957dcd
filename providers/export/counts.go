package export

import "github.com/dlreconcile/dlreconcile/providers/export/nbd"

// Counts says what was served so far, and is now.
type Counts struct {
	nbd.Counts
	Open   int    // connections that have an export
	Denied uint64 // clients that may not have the export they asked for
}

// Counts says what was served so far.
func (p *Provider) Counts() Counts {
	p.mu.Lock()
	open := len(p.conns)
	p.mu.Unlock()
	return Counts{p.server.Counts(), open, p.denied.Load()}
}
