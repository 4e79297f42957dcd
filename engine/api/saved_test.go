package api

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// A plan that the daemon saved is applied by the daemon, and by whom is known from
// the socket.
func TestSavedPlan(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	two := d.repo.commit(site("two"))
	file, err := d.SavePlan(t.Context(), SavePlanRequest{WorkTree: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := engine.ReadSavedPlan(file)
	if err != nil || s.Bound.Revision != two || s.Bound.BaseGeneration != 1 || !s.Bound.WorkTree {
		t.Fatalf("%+v, %v", s, err)
	}
	st, err := d.Status(t.Context(), 0)
	if err != nil || st.HostKey != s.Signature.Key || st.HostKey == "" {
		t.Errorf("the status has the key %q, the plan %q, %v", st.HostKey, s.Signature.Key, err)
	}
	if _, err := d.Change(t.Context(), "/v1/apply", ApplyRequest{Saved: file, Revision: two}, nil); err == nil || !strings.Contains(err.Error(), "leave them out") {
		t.Error(err)
	}
	changed := append([]byte(nil), file...)
	changed[len(changed)/2] ^= 1
	out, err := d.Change(t.Context(), "/v1/apply", ApplyRequest{Saved: changed}, nil)
	if err != nil || out.Failure == nil || out.Failure.Reason != engine.ReasonStale || out.Generation != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = d.Change(t.Context(), "/v1/apply", ApplyRequest{Saved: file}, nil)
	if err != nil || out.Failure != nil || out.Generation != 2 || out.Revision != two {
		t.Fatalf("%+v, %v", out, err)
	}
	uid := uint32(os.Getuid())
	if rec, _, err := d.store.Current(); err != nil || rec.By.Via != store.ViaSocket || rec.By.UID == nil || *rec.By.UID != uid || !rec.SavedPlan {
		t.Errorf("%+v, %v", rec, err)
	}
	if out, err = d.Change(t.Context(), "/v1/apply", ApplyRequest{Saved: file}, nil); err != nil || out.Failure == nil || out.Failure.Reason != engine.ReasonStale {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestSavedPlanOfMistakes(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	d.repo.commit("nonsense {}")
	_, err := d.SavePlan(t.Context(), SavePlanRequest{})
	if f, ok := err.(*engine.Failure); !ok || len(f.Diagnostics) == 0 || f.Diagnostics[0].Range.File != "site.hcl" {
		t.Errorf("%v", err)
	}
	if _, err := d.SavePlan(t.Context(), SavePlanRequest{Revision: "nowhere"}); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Error(err)
	}
}

// Large requests take turns, and keep nobody else waiting: each costs memory that the
// servers need.
func TestOneLargeRequestAtATime(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	body, rest := io.Pipe()
	ended := make(chan error, 1)
	conn := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.path)
	}}}
	go func() {
		req, err := http.NewRequest(http.MethodPost, "http://x/v1/apply", body) // of a length that is not told
		if err != nil {
			ended <- err
			return
		}
		req.Header.Set("If-Match", "*")
		resp, err := conn.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		ended <- err
	}()
	// More than what lies between the two, so the server has begun to read it.
	if _, err := io.WriteString(rest, strings.Repeat(" ", 8<<20)); err != nil {
		t.Fatal(err)
	}
	large := ApplyRequest{Saved: make([]byte, maxShared)}
	if _, err := d.Change(t.Context(), "/v1/apply", large, nil); err == nil || !strings.Contains(err.Error(), "another large plan is being applied") {
		t.Errorf("two at once: %v", err)
	}
	if out, err := d.Change(t.Context(), "/v1/apply", ApplyRequest{}, nil); err != nil || out.Failure != nil {
		t.Errorf("a small one waits for a large one: %+v, %v", out, err)
	}
	if _, err := io.WriteString(rest, "{}"); err != nil {
		t.Fatal(err)
	}
	rest.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// Its turn: it is read, and is no plan.
	if out, err := d.Change(t.Context(), "/v1/apply", large, nil); err != nil || out.Failure == nil || out.Failure.Reason != engine.ReasonStale {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestOverridesAreAClosedSet(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	resp := d.raw(t.Context(), http.MethodPost, "/v1/apply", `{"overrides":["window","everything"]}`)
	var p Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(p.Error, `"everything" is no rule that can be overridden: want max_delete, allow_empty or window`) {
		t.Errorf("%s: %+v, %v", resp.Status, p, err)
	}
	if _, err := d.Change(t.Context(), "/v1/apply", ApplyRequest{Overrides: []string{"approve"}}, nil); err == nil || !strings.Contains(err.Error(), "approved by that") {
		t.Error(err)
	}
}
