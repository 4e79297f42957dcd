package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	berrors "go.etcd.io/bbolt/errors"
)

// The layout of the state directory:
//
//	lock                  held by the one process that may write
//	current               which generation is served, what is held, what was synced last
//	memory                second copy of what must not be lost with it: see Memory
//	generations/N.json    one record per generation
//	journal               what is under way; see journal
//	audit.ndjson          what each attempt came to; see Audit
//	audit.head            how far that has come, signed; see AuditHead
//	host.key              what this directory signs with; see HostKey
//	recipes/…             what was built from which recipe
//	blobs/sha256/…        the content store
//	state.db              leases, boot sessions
//	tmp/                  work in progress; emptied at every start

// ErrReadOnly is the error of every change through a store that was opened for
// reading.
var ErrReadOnly = errors.New("the state directory was opened for reading only")

// Options of Open. The zero value works.
type Options struct {
	Log *slog.Logger     // nil: silent
	Now func() time.Time // nil: time.Now
	// Command is how a second process is told who holds the lock. Default: the
	// program's name and its first argument.
	Command string
	// Records says, by bucket, what state.db holds.
	Records map[string]Records
}

// Store is an open state directory. Safe for concurrent use.
type Store struct {
	dir     string
	log     *slog.Logger
	now     func() time.Time
	content *Content
	lock    *lock     // nil: opened for reading
	db      *Database // nil: opened for reading
	records map[string]Records
	journal *journal // nil: opened for reading

	unfinished []Unfinished
	up         func() time.Duration // since this machine booted
	found      chan struct{}        // one entry when there is damage that Damaged has not told of

	mu     sync.Mutex // guards what is below, and every change of the records
	last   uint64     // highest number given out by this process
	damage map[string]error
	lostAt time.Time  // when it was found that nothing of Memory can be read; zero: it was not
	tail   *auditTail // of the audit log; nil: not looked for yet
	// syncAudit puts the audit log on disk; a test makes it fail.
	syncAudit func(*os.File) error
}

// Dir gives the state directory.
func (s *Store) Dir() string { return s.dir }

// Open opens the state directory for the one process that may write it, and makes
// it when it is missing. It removes what a killed process left: what is in tmp, a
// record that never became current, and blobs that nothing names; see Unfinished.
//
// When another process has it, the error is a *LockedError. It is not an error
// that the disk is full: what is recorded can be served.
func Open(dir string, o Options) (*Store, error) {
	s, err := newStore(dir, o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "generations"), 0o755); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if s.lock, err = takeLock(s.dir, o.Command, s.log); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenReadOnly opens the state directory for reading its records, whoever writes
// it meanwhile. DB gives nil, every change fails with ErrReadOnly, and there is
// nothing to close. A directory that does not exist gives fs.ErrNotExist.
func OpenReadOnly(dir string) (*Store, error) {
	s, err := newStore(dir, Options{})
	if err != nil {
		return nil, err
	}
	if _, err := os.ReadDir(s.dir); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	s.content = &Content{dir: filepath.Join(s.dir, "blobs", "sha256"), scratch: filepath.Join(s.dir, "tmp"), sync: (*os.File).Sync}
	return s, nil
}

func newStore(dir string, o Options) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	s := &Store{dir: abs, log: o.Log, now: o.Now, records: o.Records, damage: map[string]error{}, found: make(chan struct{}, 1), syncAudit: (*os.File).Sync, up: BootTime}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// open does what needs the lock.
func (s *Store) open() error {
	if err := s.ownScratch(filepath.Join(s.dir, "tmp")); err != nil {
		return fmt.Errorf("state directory: scratch: %w", err)
	}
	var err error
	if s.content, err = OpenContent(s.dir); err != nil {
		return err
	}
	if err := cleanScratch(s.content.scratch); err != nil {
		// Disk space is lost, nothing else.
		s.log.Warn("what an earlier process left behind cannot be removed", "error", err)
	}
	switch err := s.openDatabase(); {
	case errors.Is(err, berrors.ErrTimeout):
		return &LockedError{Dir: s.dir}
	case err != nil:
		return fmt.Errorf("state directory: %s: %w", s.databasePath(), err)
	}
	s.journal = newJournal(s.dir, s.publish, s.log)
	if err := s.dropUnpublished(); err != nil {
		// It is not served, and Record removes it before it could become history.
		s.log.Warn("the record of a generation that never became current cannot be removed", "error", err)
	}
	if err := s.mendMemory(); err != nil {
		s.log.Warn("the second copy of what is remembered cannot be written", "error", err)
	}
	if err := s.recover(); err != nil {
		s.log.Warn("what an attempt that was cut off left in the store cannot be removed", "error", err)
	}
	s.content.journal = s.journal
	return nil
}

// Close gives the database and the lock back. Idempotent.
func (s *Store) Close() error {
	var err error
	if s.db != nil { // without mu: who holds the database may want it
		err = s.db.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil {
		err = errors.Join(err, s.journal.close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.release())
		s.lock = nil
	}
	return err
}

// DB is the database of leases and boot sessions. It is closed by Close.
func (s *Store) DB() *Database { return s.db }

// Content is the content store.
func (s *Store) Content() *Content { return s.content }

// Damage tells which files were found damaged so far, nil when none. What can be
// done without them is done.
func (s *Store) Damage() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []error
	for _, path := range slices.Sorted(maps.Keys(s.damage)) {
		all = append(all, s.damage[path])
	}
	return errors.Join(all...)
}

// Damaged tells that Damage has more to say than when it was last told. One goroutine
// may wait for it.
func (s *Store) Damaged() <-chan struct{} { return s.found }

// noted remembers damage and says it once. The caller holds mu.
func (s *Store) noted(err error) {
	var d *DamagedError
	if !errors.As(err, &d) || s.damage[d.Path] != nil {
		return
	}
	s.damage[d.Path] = d
	select {
	case s.found <- struct{}{}:
	default: // whoever looks sees this, too
	}
	s.log.Error("a file of the state directory is damaged", "error", d)
}

// writable says whether changes are allowed. The caller holds mu.
func (s *Store) writable() error {
	if s.lock == nil {
		return ErrReadOnly
	}
	return nil
}

// DamagedError says that a file of the state directory is not what was written.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err) }

// Unwrap gives what is wrong with it.
func (e *DamagedError) Unwrap() error { return e.Err }

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
