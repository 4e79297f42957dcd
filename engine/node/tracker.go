package node

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Defaults of Config.
const (
	DefaultSessionTimeout = 15 * time.Minute
	DefaultRootTimeout    = 7 * 24 * time.Hour
	DefaultTimelines      = 5
	DefaultMaxMachines    = 100_000
	DefaultEvents         = 4096
)

// DB is the database that sessions are kept in. *bbolt.DB is one. It may call a function
// more than once: what an earlier call did in the transaction is taken back then.
type DB interface {
	View(func(*bbolt.Tx) error) error
	Update(func(*bbolt.Tx) error) error
	Batch(func(*bbolt.Tx) error) error
}

// Config is what a Tracker is made of. DB and Current are needed.
type Config struct {
	// DB keeps the sessions, in a bucket "sessions". The caller opens it, chooses how
	// long a new session waits for others to share its fsync with (a few milliseconds),
	// and closes it after Run has returned.
	DB DB
	// Lookup says who has the lease or the reservation of an address, for
	// machines without a session; nil means nobody has. It is called without
	// any lock held.
	Lookup func(netip.Addr) (provider.Client, bool)
	// Current gives the number of the generation that is served. It is called
	// with a lock held and must not call back.
	Current func() uint64
	// Pinned gives the generation that the boot sessions of a machine are opened on, by
	// an operator's order; 0, and nil: on the current one. It is called with a lock held
	// and must not call back.
	Pinned func(provider.MAC) uint64

	SessionTimeout time.Duration // a session without a sign of life ends; 0: DefaultSessionTimeout
	// RootTimeout is how long a root that is detached and silent is kept for its
	// machine: a cable may be out for days, and the machine still stands on the
	// root when it is back. 0: DefaultRootTimeout. One whose machine said that it
	// shuts down, or that is none of our exports, is kept for SessionTimeout.
	RootTimeout time.Duration
	Timelines   int // boots remembered per machine; 0: DefaultTimelines
	MaxMachines int // machines remembered; 0: DefaultMaxMachines
	Events      int // events remembered; 0: DefaultEvents
	// FirstEvent is the number before that of the first event. Where it rises from one
	// process to the next, whoever asks for what came after a number of the one before
	// is told that there is a gap.
	FirstEvent uint64

	Now func() time.Time // nil: time.Now
	// Wall makes a time of Now one for people; nil: it is.
	Wall func(time.Time) time.Time
	Log  *slog.Logger // nil: nothing is logged
}

// Tracker is the record of machines. It implements provider.Sink,
// provider.Sessions and provider.Clients, and is safe for concurrent use.
type Tracker struct {
	cfg  Config
	log  *slog.Logger
	now  func() time.Time
	wake chan struct{} // capacity 1: something is to be written

	mu       sync.Mutex // guards all below; never held while the database or Lookup is called
	machines map[provider.MAC]*machine
	addrs    map[netip.Addr]*machine // who was last acknowledged, or attached, at an address
	roots    map[netip.Addr]*machine // whose running root is attached from an address
	claims   map[netip.Addr]*machine // one of whose boots says that it is at an address; see claim
	loose    *list.List              // machines that may be forgotten, the least recently seen last
	guests   *list.List              // likewise, those of which only an address is known
	held     *list.List              // machines that may not
	dirty    map[provider.MAC]bool   // what memory knows and the disk does not
	stored   map[provider.MAC]bool   // who may have a record on disk; see wrote
	writeErr error                   // why the last write failed
	ring     *ring
}

var (
	_ provider.Sink     = (*Tracker)(nil)
	_ provider.Sessions = (*Tracker)(nil)
	_ provider.Clients  = (*Tracker)(nil)
)

// New makes a tracker and loads what was persisted. Every session and every root
// that it finds gets at least a full SessionTimeout to show itself again, since
// nobody watched while the daemon was down. A root that was attached when that was
// written counts as detached from now on, one that was detached as detached since
// then: restarts do not keep the root of a machine that never comes back.
func New(cfg Config) (*Tracker, error) {
	if cfg.DB == nil || cfg.Current == nil {
		return nil, errors.New("node: Config needs DB and Current")
	}
	if cfg.Pinned == nil {
		cfg.Pinned = func(provider.MAC) uint64 { return 0 }
	}
	if cfg.SessionTimeout <= 0 {
		cfg.SessionTimeout = DefaultSessionTimeout
	}
	if cfg.RootTimeout <= 0 {
		cfg.RootTimeout = DefaultRootTimeout
	}
	if cfg.Timelines <= 0 {
		cfg.Timelines = DefaultTimelines
	}
	if cfg.MaxMachines <= 0 {
		cfg.MaxMachines = DefaultMaxMachines
	}
	if cfg.Events <= 0 {
		cfg.Events = DefaultEvents
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Wall == nil {
		cfg.Wall = func(t time.Time) time.Time { return t }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tracker{
		cfg:      cfg,
		log:      cfg.Log,
		now:      cfg.Now,
		wake:     make(chan struct{}, 1),
		machines: map[provider.MAC]*machine{},
		addrs:    map[netip.Addr]*machine{},
		roots:    map[netip.Addr]*machine{},
		claims:   map[netip.Addr]*machine{},
		loose:    list.New(),
		guests:   list.New(),
		held:     list.New(),
		dirty:    map[provider.MAC]bool{},
		stored:   map[provider.MAC]bool{},
		ring:     newRing(cfg.Events, cfg.FirstEvent),
	}
	if err := t.load(); err != nil {
		return nil, err
	}
	return t, nil
}

// retryWrite is how long a failed write (a full disk) waits for its next try,
// unless something new is to be written before.
const retryWrite = time.Second

// Run writes to disk what events changed, until ctx ends; then it writes what is
// left and returns nil. Sessions that Boot opens do not wait for Run. A write that
// fails is tried again, and Err tells of it meanwhile.
func (t *Tracker) Run(ctx context.Context) error {
	retry := time.NewTimer(retryWrite)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-t.wake: // an event changed something
		case <-retry.C: // the disk refused it before
		case <-ctx.Done():
			return t.flush()
		}
		if t.flush() != nil {
			retry.Reset(retryWrite)
		}
	}
}

// Err tells why what is known could not be written, or nil when all is well.
func (t *Tracker) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writeErr
}

func (t *Tracker) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}
