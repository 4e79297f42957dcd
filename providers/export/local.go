package export

import (
	"context"
	"time"

	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/providers/internal/published"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Programs of this machine read artifacts through the Unix socket, read-only: whoever may
// open it may have each that everybody may have who is known. What only some may have, or
// only over TLS, is neither listed nor served there, nor what a machine wrote, which may
// be its keys. Nobody's overlay is seen there.

// local gives what s is at the Unix socket.
func (s *served) local(gen uint64) target {
	t := s.target(gen)
	t.keeps, t.limit = keepsNothing, 0
	return t
}

// resolveLocally finds what a name stands for at the Unix socket. The alias is what the
// current generation serves.
func resolveLocally(pub *published.Tables[*table], r request) (target, error) {
	if r.Instance != "" {
		return target{}, denied("a boot has no name at the Unix socket, where no machine boots")
	}
	name := r.Name
	now, _ := latest(pub, r.Family)
	if name == r.Family && now != nil {
		name = now.Name
	}
	for _, t := range order(pub, pub.Current) {
		s := t.byName[name]
		if s == nil {
			continue
		}
		err := s.withheldLocally()
		if err == nil && now != nil { // what is said of its name now counts for all that had it
			err = now.restricted()
		}
		if err != nil {
			return target{}, err
		}
		return s.local(t.gen), nil
	}
	return target{}, denied("there is no such export")
}

// withheldLocally says why s is not for whoever may open the Unix socket.
func (s *served) withheldLocally() error {
	if s.Artifact.Promoted {
		return denied("%s holds what a machine wrote, perhaps its keys: it is not served at the Unix socket", s.Image)
	}
	return s.restricted()
}

// restricted says why not everybody may have an export who is known.
func (s *served) restricted() error {
	switch {
	case len(s.allow) > 0:
		return denied("%s is for those that it lists under allow (%s), and not at the Unix socket", s.Decl.Addr, s.Decl.At("allow"))
	case s.Decl.TLS == schema.TLSRequired:
		return denied("%s is served over TLS only (%s), and not at the Unix socket", s.Decl.Addr, s.Decl.At("tls"))
	}
	return nil
}

// listedLocally gives what the current generation has there.
func listedLocally(pub *published.Tables[*table]) []nbd.Listed {
	t, ok := pub.Of(0)
	if !ok {
		return nil
	}
	var out []nbd.Listed
	for _, s := range t.sorted() {
		if s.withheldLocally() != nil {
			continue
		}
		out = append(out, nbd.Listed{Name: s.Name, Description: s.local(t.gen).description()})
	}
	return out
}

// listenAgain is how long after the Unix socket could not be had it is tried again.
const listenAgain = 5 * time.Second

// serveLocally serves the Unix socket until ctx ends, once there is something to serve. No
// machine needs it: what fails there is told in the log, once, and tried again.
func (p *Provider) serveLocally(ctx context.Context) {
	select {
	case <-p.serving:
	case <-ctx.Done():
		return
	}
	told := ""
	for p.socket != "" {
		l, err := p.kept.ListenUnix(ctx, "nbd", p.socket)
		if err == nil {
			told = ""
			err = p.server.Serve(ctx, l)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != told {
			told = err.Error()
			p.log.Error("programs of this machine cannot read images over NBD: its socket cannot be had", "socket", p.socket, "err", err)
		}
		again := time.NewTimer(listenAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
	}
}
