package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// chained makes a log with n lines, closed, and gives its directory and its lines with
// their line ends.
func chained(t *testing.T, n int) (dir string, lines []string) {
	t.Helper()
	dir = t.TempDir()
	s := mustOpen(t, dir, Options{Now: func() time.Time { return time.Unix(1e9, 0) }})
	for i := range n {
		if err := s.Audit(AuditEntry{Trigger: TriggerCommit, Who: Actor{Via: ViaDaemon}, Revision: fmt.Sprint("r", i), Generation: uint64(i), Result: AuditRefused}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, slices.Collect(strings.Lines(logText(t, dir)))
}

func logText(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "audit.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func verified(t *testing.T, dir string) AuditReport {
	t.Helper()
	s, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.VerifyAudit("")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sound fails unless the log is whole.
func sound(t *testing.T, dir string, lines int64) AuditReport {
	t.Helper()
	r := verified(t, dir)
	if r.Wrong != nil || r.Lines != lines {
		t.Errorf("%d lines, want %d: %v", r.Lines, lines, r.Wrong)
	}
	return r
}

// faulty fails unless the log is wrong from that line on.
func faulty(t *testing.T, dir, how string, line int64, message string) {
	t.Helper()
	r := verified(t, dir)
	switch {
	case r.Wrong == nil:
		t.Errorf("%s is not found", how)
	case line != 0 && r.Wrong.Line != line, !strings.Contains(r.Wrong.Message, message):
		t.Errorf("%s: %v, want line %d, %q", how, r.Wrong, line, message)
	}
}

// Each kind of forgery is found, and where it begins.
func TestAuditForgeryIsNamed(t *testing.T) {
	dir, l := chained(t, 5)
	sound(t, dir, 5)
	join := func(lines ...string) string { return strings.Join(lines, "") }
	var forged AuditEntry
	if err := json.Unmarshal([]byte(l[2]), &forged); err != nil {
		t.Fatal(err)
	}
	forged.Revision = "evil"
	own, _, err := chainLine(forged) // as good as it can be made without the others
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		how     string
		text    string
		line    int64
		message string
	}{
		{"an edited line", join(l[0], l[1], strings.Replace(l[2], "r2", "rX", 1), l[3], l[4]), 3, "not what was written"},
		{"a line edited with its hash", join(l[0], l[1], string(own)+"\n", l[3], l[4]), 4, "does not follow"},
		{"an inserted line", join(l[0], l[1], l[1], l[2], l[3], l[4]), 3, "does not follow"},
		{"an inserted line of garbage", join(l[0], "x\n", l[1], l[2], l[3], l[4]), 2, "no line of the chain"},
		{"a removed line", join(l[0], l[1], l[3], l[4]), 3, "does not follow"},
		{"the first line removed", join(l[1], l[2], l[3], l[4]), 1, "before it are missing"},
		{"swapped lines", join(l[0], l[2], l[1], l[3], l[4]), 2, "does not follow"},
		{"the end cut off", join(l[0], l[1], l[2]), 3, "signs line 5"},
		{"the end cut within a line", join(l[0], l[1], l[2], l[3][:40]), 4, "cut off"},
		{"all cut off", "", 1, "signs line 5"},
		{"the last line edited", join(l[0], l[1], l[2], l[3], strings.Replace(l[4], "r4", "rX", 1)), 5, "not what was written"},
	} {
		write(t, dir, "audit.ndjson", c.text)
		faulty(t, dir, c.how, c.line, c.message)

		// Nor does the daemon's next line cover it up.
		s := mustOpen(t, dir, Options{})
		if err := s.Audit(AuditEntry{Trigger: TriggerCommit, Result: AuditRefused}); err != nil {
			t.Fatal(err)
		}
		s.Close()
		faulty(t, dir, c.how+", and a line after it", 0, "")

		// Back to what it was, with its head.
		if err := os.Remove(filepath.Join(dir, "audit.head")); err != nil {
			t.Fatal(err)
		}
		dir, _ = chained(t, 5)
	}
}

// No byte of the log or of its head can be another one.
func TestAuditEveryByte(t *testing.T) {
	dir, _ := chained(t, 3)
	log := []byte(logText(t, dir))
	head, err := os.ReadFile(filepath.Join(dir, "audit.head"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.HostKey()
	if err != nil {
		t.Fatal(err)
	}
	check := func(log, head []byte) *AuditFault {
		h, headErr := parseHead(head)
		r, err := verifyAudit(bytes.NewReader(log), h, headErr, key.Public())
		if err != nil {
			t.Fatal(err)
		}
		return r.Wrong
	}
	if f := check(log, head); f != nil {
		t.Fatal(f)
	}
	for name, b := range map[string][]byte{"audit.ndjson": log, "audit.head": head} {
		for i := range b {
			was := b[i]
			for bit := range 8 {
				b[i] = was ^ 1<<bit
				if check(log, head) == nil {
					t.Errorf("byte %d of %s as %q is not found", i, name, b[i])
				}
			}
			b[i] = was
		}
	}
	for i := range log {
		if check(log[:i], head) == nil {
			t.Errorf("a log with %d of %d bytes is not found", i, len(log))
		}
	}
	for i := range head {
		if check(log, head[:i]) == nil {
			t.Errorf("a head with %d of %d bytes is not found", i, len(head))
		}
	}
}

// Without the head the end may have been cut off: that is said, and stays so.
func TestAuditHeadIsLost(t *testing.T) {
	dir, l := chained(t, 4)
	head := filepath.Join(dir, "audit.head")
	if err := os.Remove(head); err != nil {
		t.Fatal(err)
	}
	faulty(t, dir, "a head that is gone", 4, "audit.head is missing")
	write(t, dir, "audit.ndjson", strings.Join(l[:2], ""))
	s := mustOpen(t, dir, Options{})
	if err := s.Audit(AuditEntry{Trigger: TriggerCommit, Result: AuditRefused}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	faulty(t, dir, "an end cut off with the head", 3, "could not be believed")

	// Somebody else's signature is none.
	other, _ := chained(t, 4)
	b, err := os.ReadFile(filepath.Join(other, "audit.head"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "audit.head", string(b))
	if r := verified(t, dir); r.Wrong == nil {
		t.Error("another host's head is believed")
	}
}

// A log of lines without hashes is taken over as it is: the first line of the chain
// vouches for it. What a power cut leaves of a line is vouched for by the next.
func TestAuditChainBegins(t *testing.T) {
	dir := t.TempDir()
	old := `{"format_version":1,"time":"2026-11-01T12:00:00Z","trigger":"apply","who":{"via":"socket"},"revision":"abc","generation":1,"result":"applied","changes":[]}` + "\n"
	write(t, dir, "audit.ndjson", old+old)
	faulty(t, dir, "a log without a chain", 1, "no chain yet")
	add := func() {
		t.Helper()
		s := mustOpen(t, dir, Options{})
		defer s.Close()
		if err := s.Audit(AuditEntry{Trigger: TriggerCommit, Revision: "def", Result: AuditRefused}); err != nil {
			t.Fatal(err)
		}
	}
	add()
	if r := sound(t, dir, 1); r.Attested != int64(2*len(old)) {
		t.Errorf("%+v", r)
	}
	first := audited(t, dir)[2]
	if first.Before == nil || first.Before.Bytes != int64(2*len(old)) || first.Prev != "" {
		t.Errorf("%+v", first.AuditLink)
	}
	write(t, dir, "audit.ndjson", logText(t, dir)+`{"format_version":1,"ti`)
	faulty(t, dir, "a torn line", 4, "cut off")
	add()
	sound(t, dir, 2)
	write(t, dir, "audit.ndjson", strings.Replace(logText(t, dir), "abc", "abd", 1))
	faulty(t, dir, "an edited line of before the chain", 1, "no line of the chain")
}

// A line whose way to the disk failed does not stand there twice, whether or not the
// disk took it back.
func TestAuditLineStandsOnce(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	entry := func(n uint64) AuditEntry {
		return AuditEntry{Time: time.Unix(1e9, 0), Trigger: TriggerCommit, Who: Actor{Via: ViaDaemon}, Generation: n, Result: AuditApplied}
	}
	if err := s.Audit(entry(1)); err != nil {
		t.Fatal(err)
	}
	before := logText(t, dir)
	broken := errors.New("input/output error")
	s.syncAudit = func(*os.File) error { return broken }
	for range 3 {
		if err := s.Audit(entry(2)); !errors.Is(err, broken) {
			t.Fatal(err)
		}
	}
	if got := logText(t, dir); got != before {
		t.Errorf("%s", got)
	}
	// And it keeps all of it, or a part.
	for _, keep := range []int{1000, 7} {
		s.syncAudit = func(f *os.File) error {
			all := logText(t, dir)
			f.Close() // so that truncating fails
			write(t, dir, "audit.ndjson", all[:min(len(all), len(before)+keep)])
			return broken
		}
		if err := s.Audit(entry(2)); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if logText(t, dir) == before {
			t.Fatal("the line was taken back")
		}
	}
	s.syncAudit = (*os.File).Sync
	if err := s.Audit(entry(2)); err != nil {
		t.Fatal(err)
	}
	if err := s.Audit(entry(3)); err != nil {
		t.Fatal(err)
	}
	if list := audited(t, dir); len(list) != 3 || list[1].Generation != 2 || list[2].Generation != 3 {
		t.Errorf("%+v", list)
	}
	if r := sound(t, dir, 3); r.Attested != 0 || r.Unsigned != 0 {
		t.Errorf("%+v", r)
	}
}

// What the documentation says of the hash holds with nothing of ours.
func TestAuditHashByOtherMeans(t *testing.T) {
	_, lines := chained(t, 3)
	for _, line := range lines {
		cmd := exec.Command("sh", "-c", `sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum | cut -d' ' -f1`)
		cmd.Stdin = strings.NewReader(line)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSpace(string(out)); !strings.HasSuffix(line, `,"hash":"`+want+"\"}\n") {
			t.Errorf("%s has not the hash %s", line, want)
		}
	}
}

// Whatever stands in the log, it is read to its end, and only a chain is believed.
func FuzzVerifyAudit(f *testing.F) {
	line, _, err := chainLine(AuditEntry{FormatVersion: 1, Result: AuditApplied, Generation: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(line, '\n'), 0)
	f.Add(append(bytes.Repeat([]byte("x\n"), 3), line...), 4)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		v := newAuditVerifier(nil)
		if err := eachLine(bytes.NewReader(b), v.line); err != nil && !errors.Is(err, errStopVerify) {
			t.Fatal(err)
		}
		v.end(os.ErrNotExist, "")
		if v.report.Wrong == nil && v.report.Lines > 0 && !bytes.Contains(b, []byte(hashMember)) {
			t.Errorf("%q is believed", b)
		}
		if cut < 0 || cut > len(b) {
			return
		}
		if h, err := parseHead(b[:cut]); err == nil && h.Lines < 1 {
			t.Errorf("%+v", h)
		}
	})
}

// A process that ends between a line and its signature leaves a log that is whole.
func TestAuditKilledBeforeTheHead(t *testing.T) {
	dir, _ := chained(t, 2)
	head, err := os.ReadFile(filepath.Join(dir, "audit.head"))
	if err != nil {
		t.Fatal(err)
	}
	add := func() {
		t.Helper()
		s := mustOpen(t, dir, Options{})
		defer s.Close()
		if err := s.Audit(AuditEntry{Trigger: TriggerCommit, Result: AuditRefused}); err != nil {
			t.Fatal(err)
		}
	}
	add()
	write(t, dir, "audit.head", string(head))
	if r := sound(t, dir, 3); r.Unsigned != 1 {
		t.Errorf("%+v", r)
	}
	add()
	if r := sound(t, dir, 4); r.Unsigned != 0 {
		t.Errorf("%+v", r)
	}
	// Nor is the first line lost that was never signed for.
	dir, _ = chained(t, 1)
	if err := os.Remove(filepath.Join(dir, "audit.head")); err != nil {
		t.Fatal(err)
	}
	if r := sound(t, dir, 1); r.Unsigned != 1 {
		t.Errorf("%+v", r)
	}
	add()
	sound(t, dir, 2)
}
