package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// recordedState is what of the state directory says what is served, as text: the
// current record but for its number, its parent's and its times, the revision that
// was reached and what is held. Two directories serve the same if it is the same.
func recordedState(dir string) (string, error) {
	s, err := store.OpenReadOnly(dir)
	if err != nil {
		return "", err
	}
	rec, ok, err := s.Current()
	if err != nil {
		return "", err
	}
	if !ok {
		return "nothing\n", nil
	}
	st, err := s.State()
	if err != nil {
		return "", err
	}
	if err := s.Damage(); err != nil {
		return "", err
	}
	text, err := normalRecord(rec)
	if err != nil {
		return "", err
	}
	if st.Held != nil {
		st.Held.Since = time.Time{}
	}
	b, err := json.Marshal(st)
	return fmt.Sprintf("current %s\nstate %s\n", text, b), err
}

func normalRecord(rec *store.Record) (string, error) {
	r := *rec
	r.Number, r.Parent, r.Created, r.RolledBackTo = 0, 0, time.Time{}, 0
	if r.Held != nil {
		held := *r.Held
		held.Since = time.Time{}
		r.Held = &held
	}
	if r.Plan != nil {
		p := *r.Plan
		// A plan also says what was known when it was made: which machines were up,
		// what was built already.
		p.BaseGeneration, p.Warnings, p.Changes = 0, nil, nil
		for i := range r.Plan.Changes {
			p.Changes = append(p.Changes, plan.Change{Address: r.Plan.Changes[i].Address, Action: r.Plan.Changes[i].Action})
		}
		r.Plan = &p
	}
	r.Files = nil
	var files strings.Builder
	for _, name := range slices.Sorted(maps.Keys(rec.Files)) {
		fmt.Fprintf(&files, " %s %x", name, sha256.Sum256(rec.Files[name]))
	}
	b, err := json.Marshal(&r)
	return string(b) + files.String(), err
}

// wholeState is recordedState, and all else that must not depend on whether a daemon
// was killed on the way: every record, recipe and blob, and that nothing else lies
// about. The daemon is not running. What is left out: times, numbers, the random
// keys and ids of the host key, the leases and the boot sessions, which clients ask
// for, and the lines of the audit log, of which a killed daemon has more.
func wholeState(dir string) (string, error) {
	recorded, err := recordedState(dir)
	if err != nil {
		return "", err
	}
	lines := []string{recorded}
	s, err := store.OpenReadOnly(dir)
	if err != nil {
		return "", err
	}
	for i, n := range s.Numbers() {
		rec, err := s.Get(n)
		if err != nil {
			return "", err
		}
		text, err := normalRecord(rec)
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("record %d of those kept: %s", i, text))
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if filepath.Dir(rel) == "." {
				lines = append(lines, rel+"/")
			}
			if rel == "mirror" { // a cache
				return fs.SkipDir
			}
			return nil
		}
		top, _, _ := strings.Cut(rel, string(filepath.Separator))
		switch top {
		case "blobs", "recipes":
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("%s %x", rel, sha256.Sum256(b)))
			if top == "blobs" && fmt.Sprintf("%x", sha256.Sum256(b)) != d.Name() {
				return fmt.Errorf("%s is not what its name says", rel)
			}
		case "journal":
			st, err := d.Info()
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("journal, %d bytes", st.Size()))
		case "overlays":
			// Which boots there were, the clients know.
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "meta.json")); err != nil {
				return fmt.Errorf("a file of an overlay that never was: %w", err)
			}
			if !slices.Contains([]string{"meta.json", "data", "live", "flushed"}, d.Name()) {
				lines = append(lines, "overlays/…/"+d.Name())
			}
		case "generations":
			lines = append(lines, "generations/….json")
			if filepath.Ext(rel) != ".json" {
				return fmt.Errorf("%s is no record", rel)
			}
		case "proven":
			return nil // a hint, which a daemon that ends soon has not written yet
		default:
			if strings.HasPrefix(rel, "tmp/spoilt-") {
				return nil // it lies there until the next start
			}
			if strings.HasPrefix(rel, "state.db.damaged-") {
				rel = "state.db.damaged-…"
			}
			lines = append(lines, rel) // tmp/…, api.sock, mirror.new: whatever is not the same
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n") + "\n", nil
}

// auditedOnce says what is wrong with the audit log: every line is whole, no two are of
// one attempt, whether it was applied, refused or interrupted, and the current generation
// has exactly one that says it was applied.
func auditedOnce(dir string) error {
	s, err := store.OpenReadOnly(dir)
	if err != nil {
		return err
	}
	n, err := s.Pointed()
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, "audit.ndjson"))
	if err != nil {
		return err
	}
	defer f.Close()
	applied, began := 0, map[time.Time]bool{}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if len(sc.Bytes()) == 0 {
			continue
		}
		var e store.AuditEntry
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
		if e.Result == store.AuditApplied && e.Generation == n {
			applied++
		}
		if at := e.Began.UTC(); !at.IsZero() {
			if began[at] {
				return fmt.Errorf("the audit log has two lines of the attempt that began at %s", at)
			}
			began[at] = true
		}
	}
	if applied != 1 {
		return errors.Join(sc.Err(), fmt.Errorf("the audit log says %d times that generation %d was applied", applied, n))
	}
	return sc.Err()
}
