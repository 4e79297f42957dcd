package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestApply(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	inside, release := make(chan struct{}), make(chan struct{})
	d.provider.set(func(_ context.Context, in provider.Input) error {
		in.Report(provider.Progress{Addr: schema.Addr{Kind: "image", Name: "debian"}, Step: "debootstrap", Text: "unpacking"})
		close(inside)
		<-release
		return nil
	})
	two := d.repo.commit(site("two"))
	seen := map[engine.Phase]bool{}
	var worked bool
	out, err := d.Change(t.Context(), "/v1/apply", ApplyRequest{}, func(s engine.Status) {
		seen[s.Phase] = true
		if s.Phase == engine.PhasePreparing && len(s.Progress) > 0 && !worked {
			worked = true
			<-inside
			close(release)
		}
	})
	if err != nil || out.Failure != nil || out.Generation != 2 || out.Revision != two || out.Plan == nil || len(out.Plan.Changes) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if !worked || !seen[engine.PhasePreparing] {
		t.Errorf("progress is not told: %v", seen)
	}
	d.provider.set(nil)

	base := uint64(1)
	out, err = d.Change(t.Context(), "/v1/apply", ApplyRequest{Revision: two, Generation: &base}, nil)
	if err != nil || out.Failure == nil || out.Failure.Reason != engine.ReasonStale {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err = d.Change(t.Context(), "/v1/apply", ApplyRequest{Revision: "nonsense"}, nil); err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Error(err)
	}
}

func TestRollbackAndRelease(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	if _, err := d.Change(t.Context(), "/v1/rollback", RollbackRequest{}, nil); err == nil || !strings.Contains(err.Error(), "no generation before 1") {
		t.Error(err)
	}
	two := d.repo.commit(site("two"))
	if err := d.poll(); err != nil {
		t.Fatal(err)
	}
	d.served(2)
	out, err := d.Change(t.Context(), "/v1/rollback", RollbackRequest{Generation: 1}, nil)
	if err != nil || out.Generation != 3 || out.Held == nil || out.Held.Revision != two {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err = d.Change(t.Context(), "/v1/release", nil, nil); err != nil || out.Failure != nil || out.Held != nil {
		t.Errorf("%+v, %v", out, err)
	}
	if s := d.served(4); s.Revision != two || s.Held != nil {
		t.Errorf("%+v", s)
	}
	d.provider.set(func(context.Context, provider.Input) error { return errBroken })
	out, err = d.Change(t.Context(), "/v1/rollback", RollbackRequest{Generation: 1}, nil)
	if err != nil || out.Failure == nil || out.Failure.Message != errBroken.Error() || out.Generation != 4 {
		t.Errorf("%+v, %v", out, err)
	}
}

// The answer to a change is one line of JSON after the other, the last of which says
// what came of it.
func TestLines(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	d.repo.commit(site("two"))
	resp := d.raw(t.Context(), "POST", "/v1/apply", "")
	if got := resp.Header.Get("Content-Type"); got != "application/x-ndjson" || resp.StatusCode != 200 {
		t.Errorf("%s, %s", got, resp.Status)
	}
	var lines []Line
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		var l Line
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			t.Fatalf("%q: %v", sc.Text(), err)
		}
		lines = append(lines, l)
	}
	for i, l := range lines {
		last := i == len(lines)-1
		if l.Error != "" || last != (l.Outcome != nil) || last == (l.Status != nil) {
			t.Errorf("line %d of %d: %+v", i+1, len(lines), l)
		}
	}
	if len(lines) < 2 {
		t.Errorf("%d lines", len(lines))
	}
}

// A client that goes away in the middle ends its wait, not the work; and one that
// does not read does not hold up anything.
func TestClientGoesAway(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	inside, release := make(chan struct{}), make(chan struct{})
	d.provider.set(func(context.Context, provider.Input) error {
		close(inside)
		<-release
		return nil
	})
	d.repo.commit(site("two"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := d.Change(ctx, "/v1/apply", ApplyRequest{}, nil)
		done <- err
	}()
	<-inside
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	deaf, err := net.Dial("unix", d.path)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if _, err := deaf.Write([]byte("POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	close(release)
	d.served(2)
}

// The daemon dies in the middle of a change: the client does not take that for
// success.
func TestDaemonDiesInTheMiddle(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	d.provider.set(func(ctx context.Context, _ provider.Input) error {
		<-ctx.Done()
		return ctx.Err()
	})
	d.repo.commit(site("two"))
	out, err := d.Change(t.Context(), "/v1/apply", ApplyRequest{}, func(s engine.Status) {
		if s.Phase == engine.PhasePreparing {
			go d.stop()
		}
	})
	d.stop()
	if err == nil && out.Failure == nil {
		t.Errorf("%+v", out)
	}
}

func TestNoDaemon(t *testing.T) {
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/socket"
	c := NewClient(path)
	check := func(when string, want bool) {
		t.Helper()
		_, err := c.Status(t.Context(), 0)
		if err == nil || errors.Is(err, ErrNoDaemon) != want || want && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("no socket", true)

	// What a killed daemon leaves.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	check("a dead socket", true)
	again, err := Listen(t.Context(), nil, path)
	if err != nil {
		t.Fatalf("a dead socket is not replaced: %v", err)
	}
	if _, err := Listen(t.Context(), nil, path); err == nil {
		t.Error("a living daemon's socket was taken")
	}
	again.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), nil, path); err == nil {
		t.Error("a file was replaced")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The socket is for its owner and group, whatever the umask.
func TestSocketMode(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	d := newDaemon(t)
	st, err := os.Stat(d.path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Type() != os.ModeSocket || st.Mode().Perm() != 0o660 {
		t.Errorf("%v", st.Mode())
	}
	d.stop()
	if _, err := os.Stat(d.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// What was decided on a generation is not done on another one, also when that one comes
// between the question and its turn.
func TestDecidedOn(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	d.repo.commit(site("two"))
	if _, err := d.ChangeOf(t.Context(), 1, "/v1/apply", ApplyRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	var f *engine.Failure
	if _, err := d.ChangeOf(t.Context(), 1, "/v1/rollback", RollbackRequest{}, nil); !errors.As(err, &f) || f.Reason != engine.ReasonStale || !strings.Contains(f.Message, "generation 2 is served now") {
		t.Errorf("%v", err)
	}
	seen := uint64(1)
	if out, err := d.engine.RollbackFrom(t.Context(), &seen, 1, store.Actor{}); err != nil || out.Failure == nil || out.Failure.Reason != engine.ReasonStale || out.Generation != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := d.ChangeOf(t.Context(), 2, "/v1/rollback", RollbackRequest{}, nil); err != nil || out.Generation != 3 {
		t.Errorf("%+v, %v", out, err)
	}
}

// What was decided on a generation is not done either when another one comes while the
// order is on its way: after the first look at its If-Match.
func TestDecidedOnMeanwhile(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	seen := uint64(1)
	for _, c := range []struct {
		path, body string
		kept       func(engine.Status) bool
	}{
		{"/v1/confirm", "{}", func(s engine.Status) bool { return s.Try != nil }},
		{"/v1/release", "{}", func(engine.Status) bool { return true }},
		{"/v1/suspend", `{"reason": "night"}`, func(s engine.Status) bool { return s.Suspended == nil }},
		{"/v1/suspend", `{"hosts": ["ws01"]}`, func(s engine.Status) bool { return len(s.SuspendedHosts) == 0 }},
		{"/v1/resume", "{}", func(engine.Status) bool { return true }},
	} {
		conn, err := net.Dial("unix", d.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		// The server asks for the body when it has looked at the header.
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nIf-Match: \"%d\"\r\nContent-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", c.path, seen, len(c.body))
		r := bufio.NewReader(conn)
		for line := ""; line != "\r\n"; {
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatalf("%s: %q, %v", c.path, line, err)
			}
		}
		d.repo.commit(site(fmt.Sprint("next", seen)))
		out, err := d.Change(t.Context(), "/v1/apply", ApplyRequest{Try: "1h"}, nil)
		if err != nil || out.Try == nil {
			t.Fatalf("%+v, %v", out, err)
		}
		seen = out.Generation
		if _, err := conn.Write([]byte(c.body)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		var l Line
		for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
			if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
				t.Fatalf("%q: %v", sc.Text(), err)
			}
		}
		resp.Body.Close()
		if l.Outcome == nil || l.Outcome.Failure == nil || l.Outcome.Failure.Reason != engine.ReasonStale {
			t.Errorf("%s %s: %+v", c.path, c.body, l.Outcome)
		}
		if s, _ := d.engine.Status(); !c.kept(s) {
			t.Errorf("%s %s: it is done: %+v", c.path, c.body, s)
		}
	}
}

// FuzzIfMatch reads the header as strangers may send it: a generation is only read out
// of its own entity tag.
func FuzzIfMatch(f *testing.F) {
	for _, s := range []string{`"7"`, `*`, `W/"7"`, `"7", "8"`, `"07"`, `"+7"`, `""`, `"`, `"18446744073709551616"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n := decidedOn(&http.Request{Header: http.Header{"If-Match": {text}}}); n != nil && etag(*n) != text {
			t.Errorf("%q is read as %d", text, *n)
		}
	})
}
