package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "glpat-0123456789"

func token() ([]byte, error) { return []byte(secret), nil }

// request is what a server got.
type request struct {
	method, path string
	header       http.Header
	body         []byte
}

// server answers with one code after the other, the last one for ever, and passes on
// what it got.
func server(t *testing.T, codes ...int) (url string, got chan request) {
	t.Helper()
	got = make(chan request, 100)
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		code := codes[0]
		if len(codes) > 1 {
			codes = codes[1:]
		}
		mu.Unlock()
		if code/100 == 3 {
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		}
		if code == 429 {
			w.Header().Set("Retry-After", "120")
		}
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"message":"code %d \u001b[2J"}`, code)
		got <- request{r.Method, r.URL.EscapedPath(), r.Header, b}
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

// fast gives an outbox a clock that it need not wait for, and passes on for how long it
// would have.
func fast(o *outbox) chan time.Duration {
	waits := make(chan time.Duration, 1000)
	var mu sync.Mutex
	now := time.Unix(1e9, 0)
	o.now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	o.after = func(d time.Duration) <-chan time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
		waits <- d
		c := make(chan time.Time, 1)
		c <- now
		return c
	}
	return waits
}

// daemon is an Engine that a test sets.
type daemon struct {
	mu      sync.Mutex
	s       engine.Status
	changed chan struct{}
}

func (d *daemon) Status() (engine.Status, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.s, d.changed
}

func (d *daemon) set(s engine.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.s = s
	close(d.changed)
	d.changed = make(chan struct{})
}

// running runs f until the test ends.
func running(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func next(t *testing.T, got chan request) request {
	t.Helper()
	select {
	case r := <-got:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no request")
		return request{}
	}
}

const revision = "4f932c6fc4ed4f932c6fc4ed4f932c6fc4ed4f93"

// Each forge is asked as its documentation has it.
func TestForges(t *testing.T) {
	for _, c := range []struct {
		forge   Forge
		project string
		path    string
		header  map[string]string
		failure string
	}{
		{GitHub, "acme/site", "/repos/acme/site/statuses/" + revision,
			map[string]string{"Authorization": "Bearer " + secret, "Accept": "application/vnd.github+json", "X-Github-Api-Version": "2022-11-28"}, "failure"},
		{Gitea, "acme/site", "/repos/acme/site/statuses/" + revision, map[string]string{"Authorization": "token " + secret}, "failure"},
		{Forgejo, "acme/site", "/repos/acme/site/statuses/" + revision, map[string]string{"Authorization": "token " + secret}, "failure"},
		{GitLab, "acme/infra/site", "/projects/acme%2Finfra%2Fsite/statuses/" + revision, map[string]string{"Private-Token": secret}, "failed"},
	} {
		t.Run(string(c.forge), func(t *testing.T) {
			url, got := server(t, 201)
			cs, err := NewCommitStatus(CommitConfig{Forge: c.forge, URL: url + "/", Project: c.project, Context: "dlreconcile/main", Token: token})
			if err != nil {
				t.Fatal(err)
			}
			d := &daemon{changed: make(chan struct{})}
			running(t, func(ctx context.Context) error { return cs.Run(ctx, d) })
			check := func(state, description string) {
				t.Helper()
				r := next(t, got)
				var body map[string]string
				if err := json.Unmarshal(r.body, &body); err != nil {
					t.Fatal(err)
				}
				want := map[string]string{"state": state, "description": description, "context": "dlreconcile/main"}
				if diff := cmp.Diff(want, body); diff != "" || r.method != "POST" || r.path != c.path || r.header.Get("Content-Type") != "application/json" {
					t.Errorf("%s %s %s", r.method, r.path, diff)
				}
				for name, value := range c.header {
					if got := r.header.Get(name); got != value {
						t.Errorf("%s: %q, want %q", name, got, value)
					}
				}
			}
			d.set(engine.Status{Phase: engine.PhasePreparing, Tip: revision, Attempt: revision})
			check("pending", "is being applied")
			f := &engine.Failure{Revision: revision, Reason: engine.ReasonInvalid, Message: "site.hcl:1,1: wrong\nmore"}
			d.set(engine.Status{Phase: engine.PhaseIdle, Tip: revision, Failure: f})
			check(c.failure, "refused (invalid): site.hcl:1,1: wrong")
			// The same again is not said again; the next is.
			d.set(engine.Status{Seq: 9, Phase: engine.PhaseIdle, Tip: revision, Failure: f})
			d.set(engine.Status{Phase: engine.PhaseIdle, Tip: revision, Synced: revision, Generation: 7})
			check("success", "generation 7 is served")
			if n := cs.Counts(); n.Delivered < 2 || n.Dropped != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name string
		s    engine.Status
		want []status
	}{
		{"nothing", engine.Status{Phase: engine.PhaseIdle}, nil},
		{"starting", engine.Status{Phase: engine.PhaseStarting, Tip: "a", Synced: "a"}, nil},
		{"waiting", engine.Status{Tip: "a", Waiting: &engine.Waiting{Revision: "a", For: "window", Message: "opens at ten"}}, []status{{"a", StatePending, "waits for window: opens at ten"}}},
		{"held", engine.Status{Tip: "a", Synced: "a", Held: &engine.Hold{Reason: "rolled back to generation 1"}}, []status{{"a", StatePending, "held: rolled back to generation 1"}}},
		{"suspended", engine.Status{Tip: "a", Suspended: &store.Suspension{Reason: "a talk"}}, []status{{"a", StatePending, "suspended a talk"}}},
		{"on trial", engine.Status{Tip: "a", Synced: "a", Try: &store.Try{Revision: "a", Generation: 3, Deadline: time.Unix(0, 0)}}, []status{{"a", StatePending, "generation 3 is on trial until 1970-01-01 00:00 UTC"}}},
		{"an older one was refused", engine.Status{Tip: "b", Attempt: "b", Failure: &engine.Failure{Revision: "a", Reason: "machine", Message: "disk", Retry: true}}, []status{{"a", StateFailure, "refused (machine, is tried again): disk"}, {"b", StatePending, "is being applied"}}},
		{"long", engine.Status{Tip: "a", Failure: &engine.Failure{Revision: "a", Reason: "invalid", Message: strings.Repeat("é", 500)}}, []status{{"a", StateFailure, "refused (invalid): " + strings.Repeat("é", 120) + "…"}}},
	} {
		if diff := cmp.Diff(c.want, judge(&c.s), cmp.AllowUnexported(status{})); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// A forge that is away keeps nobody waiting, and hears the newest of each commit when
// it is back; the token is in no line of the log.
func TestForgeIsAway(t *testing.T) {
	log := &lines{}
	url, got := server(t, 500, 502, 429, 302, 401, 201)
	cs, err := NewCommitStatus(CommitConfig{
		Forge: Gitea, URL: url, Project: "a/b", Context: "c", Token: token, Log: log.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	waits := fast(cs.box)
	for n := range 100 {
		cs.put(status{revision, StatePending, fmt.Sprint(n)})
	}
	cs.put(status{revision, StateSuccess, "done"})
	running(t, func(ctx context.Context) error {
		cs.box.run(ctx)
		cs.client.CloseIdleConnections()
		return nil
	})
	for range 6 {
		r := next(t, got)
		if !strings.Contains(string(r.body), "done") {
			t.Errorf("%s is sent, and is not the newest", r.body)
		}
	}
	want := []time.Duration{time.Second, 2 * time.Second, 2 * time.Minute, 8 * time.Second, 16 * time.Second}
	for i, w := range want {
		if d := <-waits; d != w {
			t.Errorf("wait %d is %v, want %v", i+1, d, w)
		}
	}
	if s := log.String(); strings.Contains(s, secret) || !strings.Contains(s, "redirects are not followed") || strings.Contains(s, "\x1b") {
		t.Errorf("%s", s)
	}
}

// lines is a log that a test reads while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// A status that the forge does not take, or for which it is in trouble, holds up none of
// another commit; one that it refuses is given up at last, and that is told.
func TestUndeliverableHoldsUpNothing(t *testing.T) {
	var mu sync.Mutex
	var got []string
	tries := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		rev := r.URL.Path[len("/repos/a/b/statuses/"):]
		tries[rev]++
		switch {
		case rev == "unknown":
			w.WriteHeader(http.StatusNotFound)
		case rev == "refused":
			w.WriteHeader(http.StatusUnprocessableEntity)
		case rev == "trouble" && tries[rev] < 30:
			w.WriteHeader(http.StatusBadGateway)
		default:
			w.WriteHeader(http.StatusCreated)
			got = append(got, rev)
		}
	}))
	defer s.Close()
	log := &lines{}
	cs, err := NewCommitStatus(CommitConfig{Forge: Gitea, URL: s.URL, Project: "a/b", Context: "c", Token: token, Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	fast(cs.box)
	drained := make(chan struct{})
	send := cs.box.send
	cs.box.send = func(ctx context.Context, m message) error {
		err := send(ctx, m)
		if m.key == "trouble" && err == nil {
			close(drained)
		}
		return err
	}
	for _, rev := range []string{"unknown", "refused", "trouble", "one", "two"} {
		cs.put(status{rev, StateSuccess, "done"})
	}
	running(t, func(ctx context.Context) error {
		defer cs.client.CloseIdleConnections()
		cs.box.run(ctx)
		return nil
	})
	<-drained
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"one", "two", "trouble"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{"unknown": 12, "refused": 12, "trouble": 30, "one": 1, "two": 1}, tries); diff != "" {
		t.Error(diff)
	}
	if text := log.String(); strings.Count(text, "given up") != 2 || !strings.Contains(text, "404 Not Found") || !strings.Contains(text, "delivered after all") {
		t.Error(text)
	}
	if n := cs.Counts(); n.Dropped != 2 || n.Failed != 29+2*11 {
		t.Errorf("%+v", n)
	}
}

// A forge that is full does not fill the memory, and the first that is dropped is told.
func TestTooMany(t *testing.T) {
	log := &lines{}
	cs, err := NewCommitStatus(CommitConfig{Forge: GitHub, URL: "http://127.0.0.1:1", Project: "a/b", Context: "c", Token: token, Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 * mostCommits {
		cs.put(status{fmt.Sprintf("%040d", n), StateSuccess, "done"})
	}
	if c := cs.Counts(); c.Outstanding != mostCommits || c.Dropped != 2*mostCommits || len(cs.said) > mostCommits {
		t.Errorf("%+v", c)
	}
	if text := log.String(); strings.Count(text, "the oldest are dropped") != 1 {
		t.Error(text)
	}
	// One that failed goes before older ones that did not.
	e := cs.box.queue[mostCommits/2]
	cs.box.over(e, errors.New("away"))
	cs.put(status{revision, StateSuccess, "done"})
	if slices.Contains(cs.box.queue, e) || len(cs.box.queue) != mostCommits {
		t.Error("one that did not fail is dropped before one that did")
	}
}

// What the forge was told is remembered over a restart, for that forge, project and
// context alone; a file that is damaged costs a repetition.
func TestToldOnceOverRestarts(t *testing.T) {
	url, got := server(t, 201)
	file := filepath.Join(t.TempDir(), "commit-status.json")
	start := func(name string) *CommitStatus {
		t.Helper()
		cs, err := NewCommitStatus(CommitConfig{Forge: Gitea, URL: url, Project: "a/b", Context: name, Token: token, File: file})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cs.client.CloseIdleConnections)
		return cs
	}
	waits := func(cs *CommitStatus, s status) int {
		cs.put(s)
		return cs.Counts().Outstanding
	}
	done := status{revision, StateSuccess, "generation 7 is served"}
	first := start("c")
	for n := range 2 * mostCommits {
		if err := first.send(t.Context(), message{body: status{fmt.Sprintf("%040d", n), StateSuccess, strings.Repeat("\u2028", mostDescription)}}); err != nil {
			t.Fatal(err)
		}
		next(t, got)
	}
	if waits(first, done) != 1 || first.send(t.Context(), message{body: done}) != nil {
		t.Fatal("it is not sent")
	}
	next(t, got)
	again := start("c")
	if waits(again, done) != 0 {
		t.Error("it is told once more after a restart")
	}
	if waits(again, status{revision, StateFailure, "reverted"}) != 1 {
		t.Error("what is new is not told")
	}
	if again.said[fmt.Sprintf("%040d", 2*mostCommits-1)].state != StateSuccess || len(again.said) != mostCommits {
		t.Errorf("%d are remembered, want the last %d", len(again.said), mostCommits)
	}
	if waits(start("another"), done) != 1 {
		t.Error("another context takes it for told")
	}
	if st, err := os.Stat(file); err != nil || st.Size() > mostTold || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	for _, damage := range []string{"", "{", `{"format_version": 2}`, strings.Repeat("[", mostTold+1)} {
		if err := os.WriteFile(file, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if waits(start("c"), done) != 1 {
			t.Errorf("a file of %.10q is believed", damage)
		}
	}
}

// A token that cannot be read is tried again, as a forge that is slow is.
func TestSlowAndTokenless(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	fail := errors.New("no such file")
	cs, err := NewCommitStatus(CommitConfig{Forge: Gitea, URL: s.URL, Project: "a/b", Token: func() ([]byte, error) { return token0(&fail) }})
	if err != nil {
		t.Fatal(err)
	}
	cs.client.Timeout = 20 * time.Millisecond
	waits := fast(cs.box)
	cs.put(status{revision, StateSuccess, "done"})
	running(t, func(ctx context.Context) error { cs.box.run(ctx); return nil })
	for range 4 { // the first for want of a token
		<-waits
	}
	if c := cs.Counts(); c.Failed < 4 || c.Outstanding != 1 {
		t.Errorf("%+v", c)
	}
}

// token0 fails once.
func token0(err *error) ([]byte, error) {
	if e := *err; e != nil {
		*err = nil
		return nil, e
	}
	return token()
}

// GitLab refuses a state that a commit has already; that is no failure.
func TestGitLabInThatStateAlready(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		fmt.Fprint(w, `{"message":"Cannot transition status via :enqueue from :pending"}`)
	}))
	defer s.Close()
	cs, err := NewCommitStatus(CommitConfig{Forge: GitLab, URL: s.URL, Project: "a/b", Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer cs.client.CloseIdleConnections()
	if err := cs.send(t.Context(), message{body: status{revision, StatePending, "x"}}); err != nil {
		t.Error(err)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for _, c := range []struct {
		cfg  CommitConfig
		want string
	}{
		{CommitConfig{Forge: "bitbucket", Project: "a/b"}, "want github"},
		{CommitConfig{Forge: Gitea, Project: "a/b"}, "no public API"},
		{CommitConfig{Forge: GitHub, Project: "site"}, `want "owner/name"`},
		{CommitConfig{Forge: GitHub, Project: "a/b", URL: "http://git.example/api/v3"}, "want https"},
		{CommitConfig{Forge: GitHub, Project: "a/b", URL: "git.example"}, "want one such as"},
		{CommitConfig{Forge: GitHub, Project: "a/b", URL: "https://u:" + secret + "@git.example"}, "leave out the user"},
		{CommitConfig{Forge: GitLab, Project: "a/b"}, ""},
	} {
		_, err := NewCommitStatus(c.cfg)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret)) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
	for pattern, ok := range map[string]bool{"applied": true, "commit.*": true, "*": true, "*.seen": true, "": false, "aplied": false, "[a]": false, "[": false, "a?": false} {
		if _, err := NewHook(HookConfig{URL: "https://hooks.example/x", Events: []string{pattern}}); (err == nil) != ok {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

// events is where a Hook's events come from.
type events chan node.Logged

func (e events) Subscribe(ctx context.Context, _ uint64, f func(node.Logged) error) error {
	for {
		select {
		case l := <-e:
			if err := f(l); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// A hook is told what it wants to know, signed, and told again when it was away.
func TestHook(t *testing.T) {
	url, got := server(t, 503, 204)
	h, err := NewHook(HookConfig{URL: url + "/hook", Secret: token, Events: []string{"commit.*", "applied"}, Server: "main"})
	if err != nil {
		t.Fatal(err)
	}
	fast(h.box)
	from := events(make(chan node.Logged))
	running(t, func(ctx context.Context) error { return h.Run(ctx, from) })
	note := func(seq uint64, kind provider.EventKind) node.Logged {
		n := &provider.Note{Kind: kind, At: time.Unix(1e9, 0).UTC(), Revision: revision, Generation: 7}
		return node.Logged{Seq: seq, Event: provider.Event{Kind: kind, At: n.At}, Note: n}
	}
	from <- note(1, provider.NoteCondition)
	from <- node.Logged{Seq: 2, Event: provider.Event{Kind: provider.EventAck}}
	from <- note(3, provider.NoteCommitRefused)
	from <- note(4, provider.NoteApplied)
	for _, want := range []string{"commit.refused 3", "commit.refused 3", "applied 4"} {
		r := next(t, got)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(r.body)
		if sig := "sha256=" + hex.EncodeToString(mac.Sum(nil)); r.header.Get(HeaderSignature) != sig || r.method != "POST" || r.path != "/hook" {
			t.Errorf("%s %s, signed %s, want %s", r.method, r.path, r.header.Get(HeaderSignature), sig)
		}
		if is := r.header.Get(HeaderEvent) + " " + r.header.Get(HeaderDelivery); is != want {
			t.Errorf("%s, want %s", is, want)
		}
		var n Notice
		if err := json.Unmarshal(r.body, &n); err != nil || n.FormatVersion != 1 || n.Server != "main" || n.Event.Note == nil || n.Event.Note.Revision != revision {
			t.Errorf("%s: %v", r.body, err)
		}
	}
}

// Without a list of kinds a hook hears the engine, and no machine.
func TestHookWants(t *testing.T) {
	h := &Hook{}
	if h.wants(&node.Logged{Event: provider.Event{Kind: provider.EventAck}}) || !h.wants(&node.Logged{Note: &provider.Note{Kind: provider.NoteApplied}}) {
		t.Error("it wants the wrong ones")
	}
}
