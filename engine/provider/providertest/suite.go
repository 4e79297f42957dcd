package providertest

import (
	"context"
	"encoding/json"
	"reflect"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Harness is what Run needs to know of one provider.
type Harness struct {
	// Inputs prepares a state directory, which is empty and whose layout is that of
	// engine/store, and gives what is to be prepared from it. What it takes besides
	// (a port that must be in use) it gives back in t.Cleanup.
	Inputs func(t *testing.T, state string) Inputs
	// Open makes a provider on a state directory, as a new process does. It may be
	// called again for the same directory when the provider before has ended and
	// what Open put into t.Cleanup has been done.
	Open func(t *testing.T, state string) provider.Provider
	// Lose breaks sockets of a provider that Open made and that runs, as trouble with
	// an interface does, and gives what Drift is to call them, such as "nbd
	// 127.0.0.1:10809". nil when the provider is no provider.Watcher.
	Lose func(t *testing.T, p provider.Provider) []string
}

// Inputs are generations. Run numbers them; Built is as the providers before would
// have made it.
type Inputs struct {
	// One and Two declare the same sockets, and differ in what a machine of Queries
	// gets, or, when the provider answers no machine, in its outputs.
	One, Two provider.Input
	// Moved is One on other sockets. Its Want is nil when the provider has none.
	Moved provider.Input
	// Taken is One on sockets that somebody else has: it is refused, unless it is
	// only retained. Its Want is nil when there is no such thing.
	Taken provider.Input
	// Bad are refused too, each for the reason that it is named for.
	Bad map[string]provider.Input
	// Queries are asked of every table; none when the provider answers no machine.
	Queries []provider.Query
}

// Run checks a provider against the contract in engine/provider: every claim of its
// comments that can be seen from outside.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, c := range []struct {
		name  string
		check func(*house)
	}{
		{"names", (*house).names},
		{"prepare shows nothing", (*house).prepareShowsNothing},
		{"prepare again", (*house).prepareAgain},
		{"prepare refuses", (*house).prepareRefuses},
		{"prepare is cancelled", (*house).prepareIsCancelled},
		{"prepare offline", (*house).prepareOffline},
		{"commit publishes", (*house).commitPublishes},
		{"commit or abort", (*house).commitOrAbort},
		{"commit the same generation again", (*house).commitAgain},
		{"commit moves sockets", (*house).commitMovesSockets},
		{"retained beside the current one", (*house).retainedBeside},
		{"retained before the current one", (*house).retainedBefore},
		{"retire", (*house).retire},
		{"run ends", (*house).runEnds},
		{"run comes last", (*house).runComesLast},
		{"run with nothing to serve", (*house).runEmpty},
		{"concurrent", (*house).concurrent},
		{"watches", (*house).watches},
		{"keeps", (*house).keeps},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(newHouse(t, h)) })
	}
	t.Run("new process", func(t *testing.T) { newProcess(t, h) })
}

// house is one provider under test, and its state directory.
type house struct {
	t     *testing.T
	state string
	in    Inputs
	provider.Provider
	harness Harness
	stop    func() // ends Run, waits for it, and checks what it returns; nil before run
}

// newHouse makes a provider on a new state directory.
func newHouse(t *testing.T, h Harness) *house {
	t.Helper()
	state := t.TempDir()
	before, goroutines := sockets(t), goleak.IgnoreCurrent()
	// First in, last out: after all that the harness gives back.
	t.Cleanup(func() {
		same(t, "sockets are left behind", before, func() map[string]int { return sockets(t) })
		goleak.VerifyNone(t, goroutines)
	})
	in := h.Inputs(t, state)
	in.One.Generation, in.Two.Generation, in.Moved.Generation, in.Taken.Generation = 1, 2, 3, 4
	if in.Taken.Want != nil {
		in.Bad["a socket is taken"] = in.Taken
	}
	for name, bad := range in.Bad {
		bad.Generation = 9
		in.Bad[name] = bad
	}
	return open(t, h, state, in)
}

// open makes a provider on a state directory, as a new process does.
func open(t *testing.T, h Harness, state string, in Inputs) *house {
	t.Helper()
	s := &house{t: t, state: state, in: in, Provider: h.Open(t, state), harness: h}
	wants := map[string]*schema.Desired{"One": in.One.Want, "Two": in.Two.Want, "Moved": in.Moved.Want}
	text := map[string]string{}
	for name, d := range wants {
		text[name] = encode(t, d)
	}
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
		for name, d := range wants {
			if diff := cmp.Diff(text[name], encode(t, d)); diff != "" {
				t.Errorf("Want of %s is read-only, and was changed (-before +after)\n%s", name, diff)
			}
		}
	})
	return s
}

func encode(t *testing.T, d *schema.Desired) string {
	t.Helper()
	b, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// run starts the provider.
func (s *house) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	})
}

// prepare prepares what must not fail.
func (s *house) prepare(in provider.Input) provider.Txn {
	s.t.Helper()
	x, err := s.Prepare(s.t.Context(), in)
	if err != nil {
		s.t.Fatalf("Prepare of generation %d: %v", in.Generation, err)
	}
	if x == nil {
		s.t.Fatalf("Prepare of generation %d gives neither a transaction nor an error", in.Generation)
	}
	return x
}

// commit prepares and commits.
func (s *house) commit(in provider.Input) {
	s.t.Helper()
	s.prepare(in).Commit()
}

// answers gives what every query is answered with, from one generation.
func (s *house) answers(gen uint64) [][]provider.Answer {
	return ask(s.Answer, s.in.Queries, gen)
}

func ask(answer func(provider.Query) []provider.Answer, queries []provider.Query, gen uint64) [][]provider.Answer {
	var list [][]provider.Answer
	for _, q := range queries {
		q.Generation = gen
		list = append(list, answer(q))
	}
	return list
}

// serves checks that generation gen answers as want, nil being not at all.
func (s *house) serves(when string, gen uint64, want [][]provider.Answer) {
	s.t.Helper()
	if want == nil {
		want = make([][]provider.Answer, len(s.in.Queries))
	}
	got := s.answers(gen)
	for i := range got {
		if len(want[i]) == 0 && len(got[i]) == 0 {
			continue
		}
		if diff := cmp.Diff(want[i], got[i]); diff != "" {
			s.t.Errorf("%s: generation %d answers %+v otherwise (-want +got)\n%s", when, gen, s.in.Queries[i], diff)
		}
	}
}

// told gives what a transaction says that it would answer. The generation that a
// query names does not matter to it.
func (s *house) told(x provider.Txn) [][]provider.Answer {
	s.t.Helper()
	list := ask(x.Answer, s.in.Queries, 0)
	if other := ask(x.Answer, s.in.Queries, 7); !reflect.DeepEqual(list, other) {
		s.t.Errorf("a transaction answers a query that names a generation otherwise:\n%s", cmp.Diff(list, other))
	}
	for i, answers := range list {
		for _, a := range answers {
			if a.Provider != s.Name() || a.Kind == "" {
				s.t.Errorf("query %+v: an answer of nobody's: %+v", s.in.Queries[i], a)
			}
		}
	}
	return list
}
