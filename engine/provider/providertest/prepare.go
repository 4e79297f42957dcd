package providertest

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// names: a provider can be told from others, and says what it serves.
func (s *house) names() {
	if s.Name() == "" || len(s.Kinds()) == 0 {
		s.t.Errorf("provider %q serves %q", s.Name(), s.Kinds())
	}
	x, y := s.prepare(s.in.One), s.prepare(s.in.Two)
	defer x.Abort()
	defer y.Abort()
	// Else nothing that follows would prove anything.
	if reflect.DeepEqual(s.told(x), s.told(y)) && diffOutputs(x.Outputs(), y.Outputs()) == "" {
		s.t.Error("One and Two of the harness cannot be told apart")
	}
	for i, answers := range s.told(x) {
		if len(answers) == 0 {
			s.t.Errorf("nothing answers %+v", s.in.Queries[i])
		}
	}
}

// prepareShowsNothing: what is prepared is seen by nobody, before or after Abort.
func (s *house) prepareShowsNothing() {
	s.run()
	empty := s.look()
	x := s.prepare(s.in.One)
	s.unchanged("prepared, with nothing committed", empty, true)
	s.serves("prepared", 0, nil)
	x.Abort()
	s.unchanged("aborted, with nothing committed", empty, false)

	s.commit(s.in.One)
	before := s.look()
	for name, in := range map[string]provider.Input{"Two": s.in.Two, "Moved": s.in.Moved} {
		if in.Want == nil {
			continue
		}
		x := s.prepare(in)
		s.unchanged(name+" prepared", before, true)
		s.serves(name+" prepared", in.Generation, nil)
		x.Abort()
		s.unchanged(name+" aborted", before, false)
	}
}

// prepareAgain: the same input again gives the same, without doing work twice.
func (s *house) prepareAgain() {
	s.run()
	x := s.prepare(s.in.One)
	whole := func(string) bool { return true }
	before := s.files(whole)
	y := s.prepare(s.in.One)
	if diff := cmp.Diff(before, s.files(whole)); diff != "" {
		s.t.Errorf("the second time files are written (-before +after)\n%s", diff)
	}
	if diff := diffOutputs(x.Outputs(), y.Outputs()); diff != "" {
		s.t.Errorf("outputs differ (-first +second)\n%s", diff)
	}
	if diff := diffOutputs(x.Outputs(), x.Outputs()); diff != "" {
		s.t.Errorf("asked twice, outputs differ (-first +second)\n%s", diff)
	}
	if diff := cmp.Diff(s.told(x), s.told(y)); diff != "" {
		s.t.Errorf("answers differ (-first +second)\n%s", diff)
	}
	// Neither owns what the other needs.
	want := s.told(y)
	x.Abort()
	y.Commit()
	s.serves("the second committed, the first aborted", 0, want)
}

// prepareRefuses: a Prepare that fails leaves nothing, before Run and in it, and the
// next one works.
func (s *house) prepareRefuses() {
	if len(s.in.Bad) == 0 {
		s.t.Fatal("the harness has no input that fails")
	}
	goroutines := goleak.IgnoreCurrent()
	s.refuses()
	goleak.VerifyNone(s.t, goroutines)
	s.run()
	s.commit(s.in.One)
	s.refuses()
	x := s.prepare(s.in.Two)
	want := s.told(x)
	x.Commit()
	s.serves("mended", 0, want)
}

func (s *house) refuses() {
	s.t.Helper()
	before := s.look()
	for _, name := range slices.Sorted(maps.Keys(s.in.Bad)) {
		x, err := s.Prepare(s.t.Context(), s.in.Bad[name])
		if err == nil {
			s.t.Errorf("%s: no error", name)
			x.Abort()
			continue
		}
		if x != nil && !reflect.ValueOf(x).IsZero() {
			s.t.Errorf("%s: an error and a transaction", name)
		}
		var diags hcl.Diagnostics
		if errors.As(err, &diags) {
			for _, d := range diags {
				if d.Subject == nil || d.Subject.Filename == "" || d.Subject.Start.Line == 0 || d.Summary == "" || d.Detail == "" {
					s.t.Errorf("%s: a diagnostic without a place, or without words: %+v", name, d)
				}
			}
		}
		s.unchanged(name, before, false)
		s.serves(name, s.in.Bad[name].Generation, nil)
	}
}

// prepareIsCancelled: a Prepare whose ctx ends, at whatever moment, leaves nothing.
func (s *house) prepareIsCancelled() {
	goroutines := goleak.IgnoreCurrent()
	s.cancels(s.in.One)
	for _, bad := range s.in.Bad {
		s.cancels(bad)
	}
	goleak.VerifyNone(s.t, goroutines)
	s.run()
	s.commit(s.in.One)
	s.cancels(s.in.Two)
	if s.in.Moved.Want != nil {
		s.cancels(s.in.Moved)
	}
	s.commit(s.in.Two)
}

// cancels ends the ctx of Prepare when it is looked at for the n-th time; a Prepare
// that looks less often may succeed.
func (s *house) cancels(in provider.Input) {
	s.t.Helper()
	before := s.look()
	for n := range int32(20) {
		ctx, cancel := newFuse(s.t.Context(), n)
		x, err := s.Prepare(ctx, in)
		if err == nil {
			x.Abort()
		}
		cancel()
		s.unchanged("cancelled", before, false)
		if s.t.Failed() {
			s.t.Fatalf("cancelled at look %d of generation %d; error: %v", n, in.Generation, err)
		}
	}
}

// fuse is a ctx that ends when it has been looked at so many times.
type fuse struct {
	context.Context
	left   atomic.Int32
	cancel context.CancelFunc
}

func newFuse(ctx context.Context, looks int32) (*fuse, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	f := &fuse{Context: ctx, cancel: cancel}
	f.left.Store(looks)
	return f, cancel
}

func (f *fuse) burn() {
	if f.left.Add(-1) < 0 {
		f.cancel()
	}
}

func (f *fuse) Done() <-chan struct{} {
	f.burn()
	return f.Context.Done()
}

func (f *fuse) Err() error {
	f.burn()
	return f.Context.Err()
}

// prepareOffline: from what a record keeps, without the commit's files, a provider
// prepares the same as before.
func (s *house) prepareOffline() {
	s.run()
	x := s.prepare(s.in.One)
	outputs, want := x.Outputs(), s.told(x)
	x.Abort()
	s.startsFrom(offline(s.in.One, outputs), outputs, want)
}

// newProcess: so does one that knows nothing but the state directory in which an
// earlier one ended.
func newProcess(t *testing.T, h Harness) {
	s := newHouse(t, Harness{Inputs: h.Inputs, Open: func(*testing.T, string) provider.Provider { return nil }})
	var outputs map[schema.Addr]provider.Output
	var want [][]provider.Answer
	t.Run("first", func(t *testing.T) {
		first := open(t, h, s.state, s.in)
		first.run()
		x := first.prepare(s.in.One)
		outputs, want = x.Outputs(), first.told(x)
		x.Commit()
	})
	t.Run("second", func(t *testing.T) {
		second := open(t, h, s.state, s.in)
		second.run()
		second.serves("before anything is committed", 0, nil)
		second.serves("before anything is committed", 1, nil)
		second.startsFrom(offline(s.in.One, outputs), outputs, want)
	})
}

// startsFrom checks that what is prepared from in is what it was before.
func (s *house) startsFrom(in provider.Input, outputs map[schema.Addr]provider.Output, want [][]provider.Answer) {
	s.t.Helper()
	x := s.prepare(in)
	if diff := diffOutputs(outputs, x.Outputs()); diff != "" {
		s.t.Errorf("offline, outputs differ (-before +offline)\n%s", diff)
	}
	if diff := cmp.Diff(want, s.told(x)); diff != "" {
		s.t.Errorf("offline, answers differ (-before +offline)\n%s", diff)
	}
	x.Commit()
	s.serves("started offline", 0, want)
}

// offline is what the engine makes of a record.
func offline(in provider.Input, outputs map[schema.Addr]provider.Output) provider.Input {
	in.Offline, in.Files, in.Plan = true, nil, nil
	in.Artifacts = map[string]provider.Artifact{}
	in.Blobs = map[schema.Addr]map[string]provider.Blob{}
	all := maps.Clone(outputs)
	if all == nil {
		all = map[schema.Addr]provider.Output{}
	}
	maps.Copy(all, in.Built)
	for addr, o := range all {
		if o.Artifact != nil {
			in.Artifacts[o.Artifact.Recipe] = *o.Artifact
		}
		if len(o.Blobs) > 0 {
			in.Blobs[addr] = o.Blobs
		}
	}
	return in
}

func diffOutputs(a, b map[schema.Addr]provider.Output) string {
	return cmp.Diff(a, b, cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}), cmpopts.EquateEmpty())
}
