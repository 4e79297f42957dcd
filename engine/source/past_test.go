package source

import (
	"runtime"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// History that nobody has signed for takes little memory, however large its commits
// are.
func TestLineageKeepsLittleOfACommit(t *testing.T) {
	r := newRepo(t, true)
	tree := r.tree(files{"site.hcl": "x"})
	text := strings.Repeat("all work and no play\n", (900<<10)/21)
	older := r.commitTree(tree, "older")
	tip := older
	const commits = 25
	for range commits {
		tip = r.commitTree(tree, text, tip)
	}
	o := &objects{dirs: gitDirs{dot: r.dir, common: r.dir}}
	held := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := held()
	walk := past{objs: o}
	var kept []ancestor
	for next := []plumbing.Hash{tip}; len(next) > 0; next = kept[len(kept)-1].parents {
		a, err := walk.read(next[0])
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, a)
	}
	o.forget()
	if after := held(); after > before && after-before > 8<<20 {
		t.Errorf("%d MiB are kept of %d commits", (after-before)>>20, len(kept))
	}
	runtime.KeepAlive(kept)
	line, err := o.lineage(t.Context(), tip, older)
	if err != nil || line.descends != yes || len(line.added) != commits {
		t.Errorf("%d commits, %v, %v", len(line.added), line.descends, err)
	}
	walk.bytes = maxHistoryBytes + 1
	if _, err := walk.read(tip); !strings.Contains(endless(err), "128 MiB") {
		t.Errorf("more than is read: %v", err)
	}
}

// One commit that is too large ends what can be found out, and breaks nothing.
func TestLineageOverALargeCommit(t *testing.T) {
	r := newRepo(t, true)
	tree := r.tree(files{"site.hcl": "x"})
	older := r.commitTree(tree, "older")
	large := r.commitTree(tree, strings.Repeat("x", maxCommit), older)
	tip := r.commitTree(tree, "tip", large)
	o := &objects{dirs: gitDirs{dot: r.dir, common: r.dir}}
	line, err := o.lineage(t.Context(), tip, older)
	if err != nil || !line.cut || line.descends != unknown || !strings.Contains(line.why, large.String()[:12]) {
		t.Errorf("%v, %q, %v", line.descends, line.why, err)
	}
	s := mustOpen(t, Config{Repo: r.dir})
	refused(t, verdict(s, t.Context(), Revision{Hash: tip.String()}, older.String()), ReasonHistory, tip.String())
	var p past
	p.objs, p.parents = o, maxParents+1
	if _, err := p.read(plumbing.ZeroHash); endless(err) == "" {
		t.Errorf("too many parents: %v", err)
	}
}
