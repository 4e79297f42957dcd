package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// soakFile is a file of a boot tree.
type soakFile struct {
	size   int64
	digest string
}

// soakLedger holds what machines were given against what explain said of it. Names in
// boot trees are of one content for ever.
type soakLedger struct {
	offer atomic.Pointer[soakOffer] // of the newest generation

	mu        sync.Mutex          // guards what follows
	explained map[string]soakFile // by path
	served    map[string]soakFile
	wrong     []string
}

// soakOffer is what machines that start now are offered. It is not changed.
type soakOffer struct {
	paths  []string // of files
	root   string   // export
	digest string   // of the root
}

// saw notes what came under a name.
func (l *soakLedger) saw(path string, content []byte) {
	sum := sha256.Sum256(content)
	f := soakFile{int64(len(content)), "sha256:" + hex.EncodeToString(sum[:])}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(path, l.served, f)
}

func (l *soakLedger) note(path string, list map[string]soakFile, f soakFile) {
	for _, known := range []map[string]soakFile{l.explained, l.served} {
		if old, ok := known[path]; ok && old != f {
			l.wrong = append(l.wrong, fmt.Sprintf("%s: %+v, and was %+v", path, f, old))
		}
	}
	list[path] = f
}

// explain asks for every file that any machine may be offered by the generation that is
// served.
func (l *soakLedger) explain(ctx context.Context, client *api.Client) error {
	offer := &soakOffer{}
	for _, ask := range [][]string{{"arch", "0"}, {"arch", "7"}, {"arch", "16"}, {"class", "iPXE"}} {
		q := query("all", "1")
		q.Set(ask[0], ask[1])
		err := client.Lines(ctx, "/v1/explain", q, func(line json.RawMessage) error {
			var r struct {
				explain.Result
				Error string `json:"error"`
			}
			if err := json.Unmarshal(line, &r); err != nil {
				return err
			}
			if r.Error != "" {
				return fmt.Errorf("explain: %s", r.Error)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, a := range r.Steps {
				if a.Kind == provider.AnswerRoot {
					offer.root, offer.digest = a.Name, a.Digest
				}
				if path, ok := treePath(a.Name); ok && !a.Absent && a.Digest != "" {
					l.note(path, l.explained, soakFile{a.Size, a.Digest})
					offer.paths = append(offer.paths, path)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.Sort(offer.paths)
	offer.paths = slices.Compact(offer.paths)
	l.offer.Store(offer)
	return nil
}

// verdict says what was wrong, and how many files were served, of which nothing was
// explained.
func (l *soakLedger) verdict() (wrong, unexplained []string, served int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for path := range l.served {
		if _, ok := l.explained[path]; !ok {
			unexplained = append(unexplained, path)
		}
	}
	slices.Sort(unexplained)
	return l.wrong, unexplained, len(l.served)
}

// soakEvents counts the events of a daemon by their kinds.
type soakEvents struct {
	count map[string]int
	last  map[string]string
}

// watch follows the events until ctx ends.
func (e *soakEvents) watch(ctx context.Context, client *api.Client) error {
	e.count, e.last = map[string]int{}, map[string]string{}
	err := client.Events(ctx, 0, func(line json.RawMessage) error {
		var ev struct{ Kind string }
		if err := json.Unmarshal(line, &ev); err != nil {
			return err
		}
		e.count[ev.Kind]++
		e.last[ev.Kind] = string(line)
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the events ended: %w", err)
}
