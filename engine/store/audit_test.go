package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/schema"
)

// audited reads the lines of an audit log that are whole.
func audited(t *testing.T, dir string) []AuditEntry {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "audit.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	var out []AuditEntry
	for _, line := range bytes.Split(b, []byte("\n")) {
		var e AuditEntry
		if json.Unmarshal(line, &e) == nil {
			out = append(out, e)
		}
	}
	return out
}

func TestAuditGrowsByLines(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	uid := uint32(0)
	first := AuditEntry{
		Time: time.Date(2026, 11, 1, 13, 0, 0, 0, time.FixedZone("", 3600)), Trigger: TriggerApply, Who: Actor{Via: ViaSocket, UID: &uid}, Revision: "abc", Generation: 1,
		Result: AuditApplied, Changes: []AuditChange{{schema.Addr{Kind: "host", Name: "a"}, plan.Create}}, Overrides: []string{"window"},
	}
	if err := s.Audit(first); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "audit.ndjson")
	want := `{"format_version":1,"time":"2026-11-01T12:00:00Z","trigger":"apply","who":{"via":"socket","uid":0},"revision":"abc","generation":1,"result":"applied","changes":[{"address":"host.a","action":"create"}],"overrides":["window"],"prev":"","hash":"a3753fa1c7c92025baf422178a317edae44e4741ec34b1315cd05d0e91a9f95b"}` + "\n"
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
	// What a power cut leaves of a line stays, and spoils no other.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"format_version":1,"time":"20`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := s.Audit(AuditEntry{Trigger: TriggerCommit, Who: Actor{Via: ViaDaemon}, Revision: "def", Generation: 1, Result: AuditRefused}); err != nil {
		t.Fatal(err)
	}
	list := audited(t, dir)
	if len(list) != 2 || list[1].Revision != "def" || list[1].Time.IsZero() || list[1].Changes == nil {
		t.Errorf("%+v", list)
	}
	if b, _ := os.ReadFile(path); !strings.HasPrefix(string(b), want) || bytes.Count(b, []byte("\n")) != 3 {
		t.Errorf("%s", b)
	}
	reader, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Audit(first); !errors.Is(err, ErrReadOnly) {
		t.Errorf("%v", err)
	}
}

// A process that dies between the record and the line must not leave a generation
// that nobody wrote down.
func TestAuditIsMended(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	if e, err := s.MissingAudit(); e != nil || err != nil {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "audit.ndjson")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing was applied, and there is a log: %v", err)
	}
	changes := []plan.Change{{Address: schema.Addr{Kind: "host", Name: "a"}, Action: plan.Create}}
	rec := &Record{Trigger: TriggerApply, Revision: "abc", Plan: &plan.Plan{Changes: changes}, Overrides: []string{"max_delete"}, By: Actor{Via: ViaCommand}}
	if err := s.Record(rec); err != nil {
		t.Fatal(err)
	}
	mend := func(want bool) {
		t.Helper()
		e, err := s.MissingAudit()
		if err != nil || (e != nil) != want {
			t.Fatalf("%+v, %v", e, err)
		}
		if e == nil {
			return
		}
		if err := s.Audit(*e); err != nil {
			t.Fatal(err)
		}
	}
	// That another attempt left a line proves nothing.
	if err := s.Audit(AuditEntry{Trigger: TriggerCommit, Revision: "xyz", Generation: 1, Result: AuditRefused}); err != nil {
		t.Fatal(err)
	}
	mend(true)
	mend(false)
	list := audited(t, dir)[1:]
	want := []AuditEntry{{
		FormatVersion: 1, AuditLink: list[0].AuditLink, Time: list[0].Time, Trigger: TriggerApply, Who: Actor{Via: ViaCommand}, Revision: "abc", Generation: 1, Result: AuditApplied,
		Changes: []AuditChange{{schema.Addr{Kind: "host", Name: "a"}, plan.Create}}, Overrides: []string{"max_delete"}, Recovered: true,
	}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	// Nothing is written again while an earlier generation stands in, nor for what a
	// torn line says. The line is found behind those that are longer than what is read
	// at once.
	long := strings.Repeat("x", 600<<10)
	if err := s.Audit(AuditEntry{Trigger: TriggerCommit, Revision: "def", Generation: 0, Result: AuditRefused, Message: long}); err != nil {
		t.Fatal(err)
	}
	mend(false)
	f, err := os.OpenFile(filepath.Join(dir, "audit.ndjson"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"format_version":1,"generation":7,"message":"` + long); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if n, err := lastAudit(filepath.Join(dir, "audit.ndjson")); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func FuzzLastAudit(f *testing.F) {
	f.Add([]byte("{\"format_version\":1,\"generation\":3,\"result\":\"applied\"}\n{\"format_version\":1,\"result\":\"refused\"}\n{\"form"))
	f.Add([]byte("\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "audit")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := lastAudit(path); err != nil {
			t.Error(err)
		}
	})
}

// TestMendedLineOfTheDaemonSaysSo: who is behind a commit that the daemon applied by
// itself is no blank.
func TestMendedLineOfTheDaemonSaysSo(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	if err := s.Record(&Record{Trigger: TriggerCommit, Revision: "abc"}); err != nil {
		t.Fatal(err)
	}
	e, err := s.MissingAudit()
	if err != nil || e == nil || e.Who.Via != ViaDaemon {
		t.Errorf("%+v, %v", e, err)
	}
}
