package main

import (
	"context"
	"io/fs"
	"sync"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/source"
)

// patientSource is a repo that could not be opened when the daemon started: a disk
// that is not mounted yet, a folder that somebody moved. It is tried again at every
// look; what it says until then is why it cannot be read.
type patientSource struct {
	open  func() (*source.Source, error)
	every time.Duration // between looks while it is away

	mu  sync.Mutex // guards src
	src *source.Source
}

func (p *patientSource) get() (*source.Source, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.src == nil {
		src, err := p.open()
		if err != nil {
			return nil, err
		}
		p.src = src
	}
	return p.src, nil
}

func (p *patientSource) Tip(ctx context.Context) (source.Revision, error) {
	src, err := p.get()
	if err != nil {
		return source.Revision{}, err
	}
	return src.Tip(ctx)
}

func (p *patientSource) Resolve(ctx context.Context, name string) (source.Revision, error) {
	src, err := p.get()
	if err != nil {
		return source.Revision{}, err
	}
	return src.Resolve(ctx, name)
}

func (p *patientSource) Tree(ctx context.Context, rev source.Revision) (fs.FS, error) {
	src, err := p.get()
	if err != nil {
		return nil, err
	}
	return src.Tree(ctx, rev)
}

func (p *patientSource) Verify(ctx context.Context, rev source.Revision, since source.Trusted) (source.Trusted, error) {
	src, err := p.get()
	if err != nil {
		return source.Trusted{}, err
	}
	return src.Verify(ctx, rev, since)
}

// Run asks for a look every so often until the repo is there, and then leaves it to
// the repo when to look.
func (p *patientSource) Run(ctx context.Context, wake chan<- struct{}) error {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		src, err := p.get()
		select { // the one look that matters now: it finds the repo, or tells why not
		case wake <- struct{}{}:
		default:
		}
		if err == nil {
			return src.Run(ctx, wake)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
