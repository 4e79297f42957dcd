package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestFailureReasons(t *testing.T) {
	at := time.Unix(1, 0)
	diag := hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Wrong"}}
	stale := &Failure{Reason: ReasonStale, Stage: PhaseLoading}
	for _, c := range []struct {
		err    error
		reason string
		retry  bool
	}{
		{diag, ReasonInvalid, false},
		{fmt.Errorf("dhcp: %w", diag), ReasonInvalid, false},
		{io.ErrUnexpectedEOF, ReasonMachine, true},
		{fmt.Errorf("apply: %w", stale), ReasonStale, false},
	} {
		f := failure("rev", PhasePreparing, c.err, at)
		if f.Reason != c.reason || f.Retry != c.retry {
			t.Errorf("%v: %+v", c.err, f)
		}
		if f != stale && (f.Revision != "rev" || f.Stage != PhasePreparing || !f.At.Equal(at) || f.Message != c.err.Error()) {
			t.Errorf("%v: %+v", c.err, f)
		}
		if (f.Reason == ReasonInvalid) != (len(f.Diagnostics) > 0) {
			t.Errorf("%v: %+v", c.err, f.Diagnostics)
		}
		if !errors.As(error(f), new(*Failure)) {
			t.Error("a Failure is an error")
		}
	}
}

// Only so many lines of progress are kept, the newest.
func TestProgressIsBounded(t *testing.T) {
	e := New(Config{Log: slog.New(slog.DiscardHandler)})
	e.update(func(s *Status) { s.Attempt = "rev" })
	for n := range 1000 {
		e.progress(t.Context(), provider.Progress{Addr: schema.Addr{Kind: "image", Name: fmt.Sprint(n)}})
	}
	s, _ := e.Status()
	if len(s.Progress) != 64 || s.Progress[63].Addr.Name != "999" {
		t.Errorf("%d lines, the last of %s", len(s.Progress), s.Progress[len(s.Progress)-1].Addr)
	}
}

// Each change of the status wakes who waits, once.
func TestStatusWakes(t *testing.T) {
	e := New(Config{})
	s, changed := e.Status()
	select {
	case <-changed:
		t.Error("woken by nothing")
	default:
	}
	e.update(func(s *Status) { s.Tip = "a" })
	<-changed
	next, again := e.Status()
	if next.Seq != s.Seq+1 || next.Tip != "a" || s.Tip != "" {
		t.Errorf("%+v after %+v", next, s)
	}
	if again == changed {
		t.Error("the same channel again")
	}
}
