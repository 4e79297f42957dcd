package source

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	settle     = 50 * time.Millisecond // a push touches several files
	maxWatched = 1024                  // folders of refs; beyond, polling finds what happens
)

// Run puts a value into wake whenever it is worth calling Tip: at once, on every
// poll, and soon after a ref of a local repository changed. These are hints, often
// wrong and never more than one at a time: a wake that is full is left alone, so
// give it a buffer of one. Run returns nil when ctx ends; it owns everything that
// it started.
//
// When the repository cannot be watched, polling alone goes on.
func (s *Source) Run(ctx context.Context, wake chan<- struct{}) error {
	hint := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	var w watch
	if s.Local() {
		w = watch{dirs: s.dirs, ref: s.cfg.Ref}
		if err := w.start(); err != nil {
			s.log.Warn("cannot watch the repository; polling it", "repo", s.cfg.Repo, "poll", s.cfg.Poll, "error", err)
		}
		defer w.close()
	}
	poll := time.NewTimer(s.jittered())
	defer poll.Stop()
	settled := time.NewTimer(settle)
	settled.Stop()
	defer settled.Stop()
	hint()
	pending := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			w.rescan()
			hint()
			poll.Reset(s.jittered())
		case <-settled.C:
			pending = false
			hint()
		case e := <-w.events():
			if w.concerns(e) && !pending {
				pending = true
				settled.Reset(settle)
			}
		case err := <-w.errors():
			s.log.Debug("watching the repository", "repo", s.cfg.Repo, "error", err)
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				w.rescan()
				hint()
			}
		}
	}
}

func (s *Source) jittered() time.Duration {
	tenth := int64(s.cfg.Poll / 10)
	return s.cfg.Poll - time.Duration(tenth) + time.Duration(rand.Int64N(2*tenth+1))
}

// watch follows the folders that hold the refs of a local repository. Folders,
// not files: Git writes a lock file beside a ref and renames it. The zero watch
// watches nothing.
type watch struct {
	dirs gitDirs
	ref  string
	w    *fsnotify.Watcher
}

func (w *watch) start() error {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	w.w = n
	if err := w.add(); err != nil {
		w.close()
		return err
	}
	return nil
}

func (w *watch) close() {
	if w.w != nil {
		w.w.Close() // waits for its goroutine; nothing else can fail
		w.w = nil
	}
}

func (w *watch) events() <-chan fsnotify.Event {
	if w.w == nil {
		return nil
	}
	return w.w.Events
}

func (w *watch) errors() <-chan error {
	if w.w == nil {
		return nil
	}
	return w.w.Errors
}

// rescan watches what is new, for when events were lost or folders replaced. It
// starts watching if that failed before.
func (w *watch) rescan() {
	switch {
	case w.dirs.dot == "":
	case w.w == nil:
		_ = w.start() // said once; polling goes on
	default:
		_ = w.add()
	}
}

// add watches the repository's own folder, that of linked work trees, and all
// folders of refs that matter. Watching a folder again does nothing.
func (w *watch) add() error {
	for _, d := range []string{w.dirs.dot, w.dirs.common} {
		if err := w.w.Add(d); err != nil {
			return err
		}
	}
	refs := filepath.Join(w.dirs.common, "refs")
	count := 0
	return filepath.WalkDir(refs, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !e.IsDir() {
			return nil
		}
		// What a fetch of a developer's clone writes is nobody's tip.
		if p == filepath.Join(refs, "remotes") && !strings.HasPrefix(w.ref, "refs/remotes/") {
			return fs.SkipDir
		}
		if count++; count > maxWatched {
			return fs.SkipAll
		}
		if err := w.w.Add(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// concerns reports whether an event may mean that a ref changed, and follows new
// folders of refs.
func (w *watch) concerns(e fsnotify.Event) bool {
	if strings.HasSuffix(e.Name, ".lock") || e.Op == fsnotify.Chmod {
		return false
	}
	refs := filepath.Join(w.dirs.common, "refs")
	inRefs := e.Name == refs || strings.HasPrefix(e.Name, refs+string(filepath.Separator))
	if inRefs && e.Has(fsnotify.Create) {
		if st, err := os.Lstat(e.Name); err == nil && st.IsDir() {
			// Refs may have been written into it before it was watched, so it is
			// a reason to look, too.
			_ = w.add()
		}
	}
	base := filepath.Base(e.Name)
	return inRefs || base == "HEAD" || base == "packed-refs" || e.Name == w.dirs.common || e.Name == w.dirs.dot
}
