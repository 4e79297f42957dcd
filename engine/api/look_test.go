package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

func readerOf(s string) io.Reader { return strings.NewReader(s) }

func TestStatus(t *testing.T) {
	d := newDaemon(t)
	s := d.served(1)
	if s.Revision != d.repo.tip || len(s.Conditions) != 5 {
		t.Errorf("%+v", s)
	}
	now, err := d.Status(t.Context(), 0)
	if err != nil || now.Generation != 1 {
		t.Errorf("%+v, %v", now, err)
	}
	// A wait ends with the next change, and with the client.
	d.repo.commit(site("two"))
	s = d.wait("idle", func(s engine.Status) bool { return s.Phase == engine.PhaseIdle })
	if err := d.poll(); err != nil {
		t.Fatal(err)
	}
	if later, err := d.Status(t.Context(), s.Seq); err != nil || later.Seq <= s.Seq {
		t.Errorf("%d after %d, %v", later.Seq, s.Seq, err)
	}
	d.served(2)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := d.Status(ctx, 1<<40)
		gone <- err
	}()
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Whoever waits for the status does not hold up the end of the daemon.
func TestStopWithWaiters(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	waiting := d.raw(t.Context(), "GET", "/v1/events", "")
	answer := make(chan error)
	go func() {
		_, err := d.Status(context.Background(), 1<<40)
		answer <- err
	}()
	d.stop()
	<-answer // either way
	if _, err := io.ReadAll(waiting.Body); err != nil {
		t.Errorf("the stream does not end in good order: %v", err)
	}
	if _, err := d.Status(t.Context(), 0); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("after its end: %v", err)
	}
}

func TestObserved(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	var o engine.Observed
	if err := d.Get(t.Context(), "/v1/observed", nil, &o); err != nil {
		t.Fatal(err)
	}
	if o.Record == nil || o.Record.Number != 1 || len(o.Observations) != 1 || o.Observations[0].Kind != plan.SawLease {
		t.Errorf("%+v", o)
	}
	d.provider.mu.Lock()
	d.provider.observe = errBroken
	d.provider.mu.Unlock()
	if err := d.Get(t.Context(), "/v1/observed", nil, &o); err == nil || !strings.Contains(err.Error(), errBroken.Error()) {
		t.Error(err)
	}
}

// The map of what the store holds was left out of the answer where it is empty: a plan
// against such a daemon did not know that anybody was asked, and did not refuse an image
// that nothing can build.
func TestObservedOfAnEmptyStore(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	var o engine.Observed
	if err := d.Get(t.Context(), "/v1/observed", nil, &o); err != nil {
		t.Fatal(err)
	}
	if o.Built == nil || len(o.Built) != 0 || o.Kernels == nil || len(o.Kernels) != 0 {
		t.Fatalf("built %v, kernels %v", o.Built, o.Kernels)
	}
	want, diags := schema.Load(fstest.MapFS{"site.hcl": &fstest.MapFile{Data: []byte(`
image "golden" {
  sealed {
    digest     = "sha256:` + strings.Repeat("5", 64) + `"
    filesystem = "ext4"
  }
}
`)}}, schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if p := plan.Compute(plan.Input{Want: want, Built: o.Built}); !p.Refused() {
		t.Errorf("%+v", p.Warnings)
	}
}

func TestPlan(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	two := d.repo.commit(site("two"))
	var p plan.Plan
	for _, rev := range []string{"", two} {
		if err := d.Get(t.Context(), "/v1/plan", url.Values{"revision": {rev}}, &p); err != nil || len(p.Changes) != 1 || p.BaseGeneration != 1 || *p.Revision != two {
			t.Errorf("%+v, %v", p, err)
		}
	}
	err := d.Get(t.Context(), "/v1/plan", url.Values{"revision": {"nonsense"}}, &p)
	if err == nil || !strings.Contains(err.Error(), `"nonsense"`) || errors.As(err, new(*engine.Failure)) {
		t.Error(err)
	}
	// A mistake in the configuration comes with its places.
	bad := d.repo.commit("server \"main\" {\n  adress = \"10.0.0.1\"\n}\n")
	err = d.Get(t.Context(), "/v1/plan", url.Values{"revision": {bad}}, &p)
	var f *engine.Failure
	if !errors.As(err, &f) || f.Reason != engine.ReasonInvalid || len(f.Diagnostics) == 0 || f.Diagnostics[0].Range.Line == 0 {
		t.Errorf("%+v", err)
	}
}

func TestHistory(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	if _, err := d.Change(t.Context(), "/v1/apply", ApplyRequest{Revision: d.repo.commit(site("two"))}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Change(t.Context(), "/v1/rollback", RollbackRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	var list []HistoryEntry
	if err := d.Get(t.Context(), "/v1/history", nil, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[0].Trigger != "commit" || list[1].Trigger != "apply" || list[2].Trigger != "rollback" || list[2].RolledBackTo != 1 ||
		list[0].Current || list[1].Current || !list[2].Current || list[0].Created.IsZero() {
		t.Errorf("%+v", list)
	}
}

// The nodes, and the events that they are made of: old ones, and new ones as they
// come.
func TestNodesAndEvents(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	mac := provider.MAC{0x52, 0x54, 0, 0, 0, 1}
	boot := func() {
		if _, err := d.nodes.Boot(provider.Contact{MAC: mac, Discover: true, Vendor: "PXEClient"}); err != nil {
			t.Fatal(err)
		}
		d.nodes.Event(provider.Event{Kind: provider.EventAck, MAC: mac, Addr: netip.MustParseAddr("10.0.0.21"), Vendor: "PXEClient", Generation: 1, Protocol: "dhcp"})
	}
	boot()
	var list []node.Node
	if err := d.Get(t.Context(), "/v1/nodes", nil, &list); err != nil || len(list) != 1 || list[0].MAC != mac {
		t.Errorf("%+v, %v", list, err)
	}

	enough := errors.New("enough")
	var got []node.Logged
	err := d.Events(t.Context(), 0, func(raw json.RawMessage) error {
		var l node.Logged
		if err := json.Unmarshal(raw, &l); err != nil {
			return err
		}
		got = append(got, l)
		switch l.Seq {
		case 1:
			boot() // while the stream is open
		case 2:
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || len(got) != 2 || got[0].MAC != mac || got[1].Kind != provider.EventAck {
		t.Errorf("%+v, %v", got, err)
	}
	// From where a client left off.
	err = d.Events(t.Context(), 1, func(raw json.RawMessage) error {
		if !strings.Contains(string(raw), `"seq":2`) {
			t.Errorf("%s", raw)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = d.Events(ctx, 0, func(json.RawMessage) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Requests that make no sense are told so, as JSON.
func TestBadRequests(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	for _, c := range []struct {
		method, path, body string
		code               int
	}{
		{"GET", "/v1/status?wait=soon", "", http.StatusBadRequest},
		{"GET", "/v1/events?since=ever", "", http.StatusBadRequest},
		{"POST", "/v1/apply", "{", http.StatusBadRequest},
		{"POST", "/v1/apply", `{"revison": "x"}`, http.StatusBadRequest},
		{"POST", "/v1/rollback", `{"generation": -1}`, http.StatusBadRequest},
		{"POST", "/v1/rollback", `{"generation": "` + strings.Repeat("x", 2*maxBody) + `"}`, http.StatusBadRequest},
		{"GET", "/v1/plan?revision=nonsense", "", http.StatusUnprocessableEntity},
		{"GET", "/v1/nothing", "", http.StatusNotFound},
		{"GET", "/v1/apply", "", http.StatusMethodNotAllowed},
	} {
		resp := d.raw(t.Context(), c.method, c.path, c.body)
		if resp.StatusCode != c.code {
			t.Errorf("%s %s: %s, want %d", c.method, c.path, resp.Status, c.code)
		}
		if allow := resp.Header.Get("Allow"); (allow != "") != (c.code == http.StatusMethodNotAllowed) {
			t.Errorf("%s %s: Allow: %s", c.method, c.path, allow)
		}
		var p Problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Error == "" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %+v, %v", c.method, c.path, p, err)
		}
	}
	if err := d.Get(t.Context(), "/v1/nothing", nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Error(err)
	}
}
