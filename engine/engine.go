package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Source is where revisions come from. *source.Source is one.
type Source interface {
	// Tip gives the newest commit of the tracked ref.
	Tip(context.Context) (source.Revision, error)
	// Resolve gives the commit that a name stands for.
	Resolve(ctx context.Context, name string) (source.Revision, error)
	// Tree gives the files of a commit.
	Tree(context.Context, source.Revision) (fs.FS, error)
	// Verify says whether a commit may be served: nil if so, given the operator's
	// settings and since, the newest commit that was trusted; it gives what is since
	// once rev is served. A *source.UntrustedError says why not; any other error, that
	// it cannot be found out now.
	Verify(ctx context.Context, rev source.Revision, since source.Trusted) (source.Trusted, error)
	// Run sends on wake whenever the tip may have moved, until ctx ends.
	Run(ctx context.Context, wake chan<- struct{}) error
}

// Nodes is what the engine asks of the record of machines. *node.Node is one.
type Nodes interface {
	Observe() []plan.Observation
	Live() map[uint64]bool
	// Err tells why what is known of machines cannot be written, nil when it can.
	Err() error
}

// Notes takes what the engine did or saw. *node.Tracker is one. Note neither blocks nor
// calls the engine: locks are held.
type Notes interface{ Note(provider.Note) }

// Meter counts what the engine does. Its methods neither block nor call the engine:
// locks are held.
type Meter interface {
	Attempt(result, reason string)     // a line of the audit log: store.AuditApplied, …
	Phase(p Phase, took time.Duration) // a phase of an attempt is over
	Collected(blobs int, bytes int64)  // a collection of what nobody needs is over
}

// Config is what an Engine is made of. Store and Providers are needed; the
// Engine owns neither.
type Config struct {
	Store     *store.Store
	Source    Source // nil: only what is recorded can be served
	Providers []provider.Provider
	Nodes     Nodes
	Notes     Notes             // nil: nobody
	Meter     Meter             // nil: nobody counts
	Server    string            // name of the server block that is this daemon's own; "" when there is one
	Vars      map[string]string // values for the repo's variables
	Env       string            // the set of values in the repo that counts, as schema.Options.Env
	// Open decrypts the secrets of the repo, as schema.Options.Open; with nil, text that
	// is none is served in their place.
	Open func(sealed []byte) ([]byte, error)
	// Settings is whatever else, outside of the repo, may decide whether a commit is
	// right or trusted: the program's version, identities, keys. Only a digest of it is
	// kept. A commit that was refused for such a reason is tried again when it gives
	// something else. nil: nothing does. It is called at the start, with each attempt, and
	// with each look at a tip that is quarantined.
	Settings func() []byte
	Keep     int // generations to keep; 0 means 5
	// Settle is how long after a start nothing is collected, so that every
	// machine has had time to be seen again. 0 means 15 minutes.
	Settle time.Duration
	// Collect is how often blobs are collected at most. 0 means 5 minutes.
	Collect time.Duration
	// Retry is how long a revision that failed for a reason of the machine's waits
	// for its second attempt; the wait doubles up to 60 times that. 0 means 5 s.
	// The time of other causes than the common one is in proportion: see waits.
	Retry time.Duration
	// PrepareLimit is how long one provider may prepare one generation, builds
	// included. 0 means 3 hours.
	PrepareLimit time.Duration
	Drift        DriftTimes
	Unwatched    []string // what nobody looks for, as the operator set it; only told
	Log          *slog.Logger
	Now          func() time.Time
	// Elapsed gives the time since some moment in the past, that goes on while the
	// machine sleeps and that nobody sets. nil: CLOCK_BOOTTIME.
	Elapsed func() time.Duration

	leave    time.Duration // leaveTime, but for tests
	mendTime time.Duration // mendTime, but for tests
	tick     time.Duration // retireEvery, but for tests
	// doubtWait, but for tests
	doubtWait time.Duration
}

// Engine serves the newest good generation and follows the repo. Make one with
// New; all methods are safe for concurrent use.
type Engine struct {
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	started   time.Time
	elapsed   func() time.Duration
	inherited uint64       // the newest generation that the store had at the start
	cache     schema.Cache // of what was loaded last

	commands chan command
	drifts   drifts
	stopped  chan struct{}           // closed when Run has returned
	report   func(provider.Progress) // set before an offline attempt, else nil
	wake     chan struct{}           // capacity 1: the one slot that all triggers fall into

	prepares sync.WaitGroup    // all that prepare; Run waits for them
	hung     map[string]*hangs // by provider; see hanging

	// unserved holds the kept generations that could not be served beside the
	// current one, and why. Start and then the loop touch it.
	unserved map[uint64]error
	// unpinned is why pin could not read a generation; nil: it could. The same touch it.
	unpinned  error
	collected time.Time // when blobs were last collected; only the loop's goroutine touches it
	unknown   string    // why not all blobs in use are known; "": they are, or nothing hangs on it yet. The same touches it.
	// broken is the recorded generation when it could not be served at the start;
	// it is tried again as long as nothing newer is. Only the loop's goroutine
	// touches it.
	broken *store.Record
	// mendedLast is the kept generation that was tried again last; the same touches it.
	mendedLast uint64
	// avoided is the generation that was on trial when the process before ended: it is
	// served to machines that are on it, and stands in for nothing. 0: none.
	avoided uint64

	// auditMended says that the lines of the process before are written. The start and
	// then the attempts touch it.
	auditMended bool

	pins atomic.Pointer[map[provider.MAC]uint64] // see Pinned; nil: none

	mu      sync.Mutex // guards the fields below
	status  Status
	told    Status        // as it was when it was told last
	marks   marks         // when what happened that metrics are made of
	changed chan struct{} // closed and replaced whenever status changes
	applied *applied      // what is served; nil: nothing
	// auditErr is why the audit log lacks lines, or cannot be read; nil: it is whole.
	auditErr error

	auditMu sync.Mutex // held while lines are written, before mu; guards the field below
	// unwritten holds the lines that could not be written yet, in their order.
	unwritten []owedLine
}

// New makes an engine. It touches neither the network nor the disk.
func New(cfg Config) *Engine {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Keep == 0 {
		cfg.Keep = 5
	}
	if cfg.Settle == 0 {
		cfg.Settle = 15 * time.Minute
	}
	if cfg.Collect == 0 {
		cfg.Collect = collectEvery
	}
	if cfg.Retry == 0 {
		cfg.Retry = 5 * time.Second
	}
	if cfg.Elapsed == nil {
		cfg.Elapsed = store.BootTime
	}
	if cfg.PrepareLimit == 0 {
		cfg.PrepareLimit = 3 * time.Hour
	}
	if cfg.mendTime == 0 {
		cfg.mendTime = mendTime
	}
	if cfg.tick == 0 {
		cfg.tick = retireEvery
	}
	if cfg.doubtWait == 0 {
		cfg.doubtWait = doubtWait
	}
	if cfg.leave == 0 {
		cfg.leave = leaveTime
	}
	cfg.Drift = cfg.Drift.orDefault()
	e := &Engine{
		cfg:      cfg,
		log:      cfg.Log,
		now:      cfg.Now,
		elapsed:  cfg.Elapsed,
		started:  cfg.Now(),
		commands: make(chan command),
		drifts:   newDrifts(),
		stopped:  make(chan struct{}),
		wake:     make(chan struct{}, 1),
		unserved: map[uint64]error{},
		hung:     map[string]*hangs{},
		changed:  make(chan struct{}),
		status:   Status{Phase: PhaseStarting, Seq: 1, Unwatched: cfg.Unwatched},
	}
	e.status.reassess(e.now)
	e.told = e.status
	return e
}

// Run serves until ctx ends: first the recorded generations, from the local
// store alone, then whatever the source brings. ready, when not nil, is called
// once when the recorded generation is being served. Run is called once. It
// returns after every goroutine it started is gone: nil when ctx ended, an error
// when a provider or the source cannot go on. A Prepare that does not end with its
// context is not waited for for ever: that is an error too.
func (e *Engine) Run(ctx context.Context, ready func()) error {
	defer close(e.stopped)
	outer := ctx
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range e.cfg.Providers {
		g.Go(func() error {
			if err := p.Run(ctx); err != nil {
				return fmt.Errorf("%s: %w", p.Name(), err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s: stopped serving for no reason given", p.Name())
			}
			return nil
		})
	}
	g.Go(func() error {
		if err := e.start(ctx); err != nil {
			return err
		}
		if ready != nil {
			ready()
		}
		if e.cfg.Source != nil {
			g.Go(func() error {
				err := e.cfg.Source.Run(ctx, e.wake)
				if ctx.Err() != nil {
					return nil
				}
				if err == nil {
					err = errors.New("it ended for no reason given")
				}
				return fmt.Errorf("watching the repo: %w", err)
			})
			e.Poke()
		}
		if !e.cfg.Drift.Off {
			g.Go(func() error { return newWatch(e).run(ctx) })
			g.Go(func() error { return e.scrub(ctx) })
		}
		return e.loop(ctx)
	})
	err := g.Wait()
	if outer.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, e.comeBack())
}

// Poke makes the engine look at the source now.
func (e *Engine) Poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Answer concatenates what the providers answer, in their order.
func (e *Engine) Answer(q provider.Query) []provider.Answer {
	var all []provider.Answer
	for _, p := range e.cfg.Providers {
		all = append(all, p.Answer(q)...)
	}
	return all
}

// Desired gives the desired state that is served, or nil when nothing is.
func (e *Engine) Desired() *schema.Desired {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.applied == nil {
		return nil
	}
	return e.applied.desired
}

// Generation gives the number of the generation that is served; 0: none.
func (e *Engine) Generation() uint64 {
	if cur := e.current(); cur != nil {
		return cur.record.Number
	}
	return 0
}

func (e *Engine) current() *applied {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.applied
}
