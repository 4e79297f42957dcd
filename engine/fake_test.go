package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/schema"
)

// repo is a Source whose commits a test makes. The name of a commit is its hash.
type repo struct {
	mu         sync.Mutex
	commits    map[string]fstest.MapFS
	tip        string
	err        error            // what every look gives
	looks      int              // at the tip, begun
	began      chan struct{}    // closed and replaced with every one
	distrust   map[string]error // what Verify gives, by commit; nothing: it is trusted
	signatures string           // the setting with which Verify looks at commits
	since      []source.Trusted // what Verify was asked with
	verified   []string         // "COMMIT SINCE" of what Verify was asked
	rewound    map[string]bool  // commits whose only fault is that they follow nothing
	gate       chan struct{}    // when not nil, a look waits until it is closed
	wake       chan struct{}
}

func newRepo() *repo {
	return &repo{commits: map[string]fstest.MapFS{}, distrust: map[string]error{}, began: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// commit makes the next commit, moves the tip there, and tells who watches.
func (r *repo) commit(files map[string]string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tip = r.add(files)
	r.poke()
	return r.tip
}

// add makes a commit that no branch is at. The caller holds r.mu.
func (r *repo) add(files map[string]string) string {
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	hash := fmt.Sprintf("%040d", len(r.commits)+1)
	r.commits[hash] = tree
	return hash
}

// move makes the branch point at an earlier commit.
func (r *repo) move(hash string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tip = hash
	r.poke()
}

// fail makes every look at the tip fail; nil ends that.
func (r *repo) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	r.poke()
}

// away takes the repo away altogether.
func (r *repo) away() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.New("no such host")
	r.commits = map[string]fstest.MapFS{}
}

func (r *repo) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *repo) Tip(ctx context.Context) (source.Revision, error) {
	r.mu.Lock()
	r.looks++
	close(r.began)
	r.began = make(chan struct{})
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return source.Revision{}, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return source.Revision{}, r.err
	}
	if r.tip == "" {
		return source.Revision{}, source.ErrNoCommit
	}
	return revision(r.tip), nil
}

func revision(hash string) source.Revision {
	return source.Revision{Hash: hash, Subject: "commit " + strings.TrimLeft(hash, "0"), Author: "A <a@example.net>"}
}

func (r *repo) Resolve(_ context.Context, name string) (source.Revision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.commits[name]; !ok {
		return source.Revision{}, fmt.Errorf("%q: %w", name, source.ErrNoRef)
	}
	return revision(name), nil
}

func (r *repo) Verify(_ context.Context, rev source.Revision, since source.Trusted) (source.Trusted, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verified = append(r.verified, rev.Hash+" "+since.Commit)
	r.since = append(r.since, since)
	now := source.Trusted{Commit: rev.Hash, Verify: r.signatures}
	if since.Commit == "" && r.rewound[rev.Hash] {
		return now, nil
	}
	return now, r.distrust[rev.Hash]
}

func (r *repo) Tree(_ context.Context, rev source.Revision) (fs.FS, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tree, ok := r.commits[rev.Hash]
	if !ok {
		return nil, errors.New("the commit is gone")
	}
	return tree, nil
}

func (r *repo) Run(ctx context.Context, wake chan<- struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}
}

// journal is what was asked of providers, in order.
type journal struct {
	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed and replaced with every line
}

func newJournal() *journal { return &journal{changed: make(chan struct{})} }

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
	close(j.changed)
	j.changed = make(chan struct{})
}

// await waits until line is there n times.
func (j *journal) await(t testing.TB, line string, n int) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		j.mu.Lock()
		have := 0
		for _, l := range j.lines {
			if l == line {
				have++
			}
		}
		changed := j.changed
		j.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%q came %d times, want %d", line, have, n)
		}
	}
}

// take gives the lines so far, without those that start with one of skip, and
// forgets them.
func (j *journal) take(skip ...string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.lines
	j.lines = nil
	return slices.DeleteFunc(lines, func(l string) bool {
		return slices.ContainsFunc(skip, func(s string) bool { return strings.HasPrefix(l, s) })
	})
}

// fake is a provider in memory. It answers with what the site says.
type fake struct {
	name    string
	kinds   []string
	journal *journal

	mu       sync.Mutex
	current  uint64
	byGen    map[uint64]*fakeTable
	prepares int           // that have begun
	root     provider.Blob // of every image; zero: one that is not there
	inputs   []provider.Input
	live     []map[uint64]bool // of every Retire
	seen     []plan.Observation
	unread   error

	// What a test makes go wrong; each may be nil.
	onPrepare func(context.Context, provider.Input) error
	onOutputs func()
	onAnswer  func(provider.Query, []provider.Answer) []provider.Answer // of a Txn
	onCommit  func(gen uint64)
	onObserve func() error
	onRun     func(context.Context) error
}

// fakeTable is one generation.
type fakeTable struct {
	gen   uint64
	text  string // the domain name of the site
	hosts map[schema.Addr]string
}

func (f *fake) Name() string    { return f.name }
func (f *fake) Kinds() []string { return f.kinds }

func (f *fake) Run(ctx context.Context) error {
	if f.onRun != nil {
		return f.onRun(ctx)
	}
	<-ctx.Done()
	return nil
}

func (f *fake) Prepare(ctx context.Context, in provider.Input) (provider.Txn, error) {
	f.mu.Lock()
	f.prepares++
	f.inputs = append(f.inputs, in)
	hook := f.onPrepare
	f.mu.Unlock()
	how := ""
	if in.Offline {
		how += " offline"
	}
	if in.Retained {
		how += " retained"
	}
	f.journal.add("prepare %s %d%s", f.name, in.Generation, how)
	if hook != nil {
		if err := hook(ctx, in); err != nil {
			return nil, err
		}
	}
	t := &fakeTable{gen: in.Generation, hosts: map[schema.Addr]string{}}
	for _, s := range in.Want.Subnets {
		t.text = s.DomainName
	}
	for _, h := range in.Want.Hosts {
		t.hosts[h.Addr] = h.Address.String()
	}
	return &fakeTxn{f: f, in: in, table: t}, nil
}

func (t *fakeTable) answer(name string, q provider.Query) []provider.Answer {
	if t == nil {
		return nil
	}
	a := provider.Answer{Kind: provider.AnswerRoot, Provider: name, Text: t.text}
	if name == "dhcp" {
		a.Kind = provider.AnswerDHCP
		a.Fields = map[string]string{"yiaddr": t.hosts[q.Host]}
	}
	return []provider.Answer{a}
}

func (f *fake) Answer(q provider.Query) []provider.Answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	gen := q.Generation
	if gen == 0 {
		gen = f.current
	}
	return f.byGen[gen].answer(f.name, q)
}

func (f *fake) Retire(_ context.Context, live provider.Live) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = append(f.live, maps.Clone(live.Generations))
	f.journal.add("retire %s", f.name)
	maps.DeleteFunc(f.byGen, func(g uint64, _ *fakeTable) bool { return g != f.current && !live.Generations[g] })
	return nil
}

// Unread implements provider.Unreader.
func (f *fake) Unread() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unread
}

func (f *fake) Observe(context.Context) ([]plan.Observation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.onObserve != nil {
		if err := f.onObserve(); err != nil {
			return nil, err
		}
	}
	return slices.Clone(f.seen), nil
}

// set changes what goes wrong.
func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) began() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.prepares
}

type fakeTxn struct {
	f     *fake
	in    provider.Input
	table *fakeTable
	done  bool
}

// Outputs gives an artifact for each image, and a name for each export.
func (x *fakeTxn) Outputs() map[schema.Addr]provider.Output {
	if x.f.onOutputs != nil {
		x.f.onOutputs()
	}
	out := map[schema.Addr]provider.Output{}
	switch x.f.name {
	case "image":
		for _, im := range x.in.Want.Images {
			a, ok := x.in.Artifacts[im.Recipe]
			if !ok {
				root := x.f.root
				if root.Digest == "" {
					root = provider.Blob{Digest: "sha256:" + strings.Repeat("ab", 32), Size: 1}
				}
				a = provider.Artifact{Recipe: im.Recipe, Root: root, Filesystem: "ext4"}
			}
			out[im.Addr] = provider.Output{Artifact: &a}
		}
	case "export":
		for _, ex := range x.in.Want.Exports {
			out[ex.Addr] = provider.Output{Export: &provider.Export{Name: ex.Addr.Name + "@" + x.in.Built[ex.Image].Artifact.Short()}}
		}
	case "bootloader":
		for _, b := range x.in.Want.Bootloaders {
			out[b.Addr] = provider.Output{
				Trees: map[provider.TreeKey]*provider.Tree{{Subnet: schema.Addr{Kind: "subnet", Name: "lan"}}: {ID: "tree1"}},
				Blobs: map[string]provider.Blob{"ipxe.efi": {Digest: "sha256:" + strings.Repeat("cd", 32), Size: 2}},
			}
		}
	}
	return out
}

func (x *fakeTxn) Answer(q provider.Query) []provider.Answer {
	list := x.table.answer(x.f.name, q)
	if x.f.onAnswer != nil {
		list = x.f.onAnswer(q, list)
	}
	return list
}

func (x *fakeTxn) Commit() {
	if x.done {
		return
	}
	x.done = true
	x.f.journal.add("commit %s %d", x.f.name, x.in.Generation)
	if x.f.onCommit != nil {
		x.f.onCommit(x.in.Generation)
	}
	x.f.mu.Lock()
	defer x.f.mu.Unlock()
	x.f.byGen[x.table.gen] = x.table
	if !x.in.Retained {
		x.f.current = x.table.gen
	}
}

func (x *fakeTxn) Abort() {
	if x.done {
		return
	}
	x.done = true
	x.f.journal.add("abort %s %d", x.f.name, x.in.Generation)
}
