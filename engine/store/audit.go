package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Results of an attempt, as the audit log has them. The set is closed.
const (
	AuditApplied   = "applied"   // the generation was recorded, and is served
	AuditUnchanged = "unchanged" // the revision describes what is served already
	AuditWaiting   = "waiting"   // for an approval or a window
	AuditRefused   = "refused"   // nothing was changed: Reason says why
	// AuditInterrupted says that the process ended in the middle of it, and that nothing
	// was changed. Time is when it began: nobody knows when it ended.
	AuditInterrupted = "interrupted"
	AuditDone        = "done" // an order that makes no generation was carried out: a release, a suspension
)

// Triggers of lines that tell of an order which makes no generation; for the others see
// Record.Trigger.
const (
	TriggerRelease = "release"
	TriggerSuspend = "suspend"
	TriggerResume  = "resume"
	TriggerConfirm = "confirm"
	TriggerReset   = "reset"   // of a machine's overlays
	TriggerPromote = "promote" // of a machine's overlay: Message is the digest of the artifact
)

// How an order reached the engine.
const (
	ViaDaemon  = "daemon"  // nobody's order: the daemon follows the repo
	ViaSocket  = "socket"  // of the daemon
	ViaTCP     = "tcp"     // its API on the network
	ViaCommand = "command" // the command line, without a daemon
)

// Actor is who wanted something done.
type Actor struct {
	Via  string  `json:"via"`            // ViaDaemon, …
	UID  *uint32 `json:"uid,omitempty"`  // of the process that asked, as the kernel says; nil for the daemon itself
	Name string  `json:"name,omitempty"` // of the principal that the daemon's settings make of it, if any
}

// AuditEntry is one line of the audit log: what one attempt, or one order, came to. Readers are to
// ignore members that they do not know.
type AuditEntry struct {
	FormatVersion int       `json:"format_version"`
	Time          time.Time `json:"time"` // of the attempt's end
	// Began is when the attempt began to prepare, as the journal has it: no two lines
	// are of the same. Zero: it did not come to that.
	Began      time.Time `json:"began,omitzero"`
	Trigger    string    `json:"trigger"`
	Who        Actor     `json:"who"`
	Revision   string    `json:"revision"`
	Generation uint64    `json:"generation"` // served when the attempt had ended; 0: none
	Result     string    `json:"result"`     // AuditApplied, …
	Reason     string    `json:"reason,omitempty"`
	Message    string    `json:"message,omitempty"`
	// Changes is what was applied: empty unless Result is AuditApplied.
	Changes []AuditChange `json:"changes"`
	// PolicyChanged says that another policy is in force since.
	PolicyChanged bool `json:"policy_changed,omitempty"`
	// Overrides names the rules of the policy that were passed by order.
	Overrides []string `json:"overrides,omitempty"`
	SavedPlan bool     `json:"saved_plan,omitempty"` // it was the order to apply one
	// Recovered says that the line was written at the next start: the process ended
	// between recording the generation and writing it down here.
	Recovered bool `json:"recovered,omitempty"`
	// Hosts are those that the order named, of a suspension or its end.
	Hosts []string `json:"hosts,omitempty"`
	AuditLink
}

// AuditChange is what happened to one resource.
type AuditChange struct {
	Address schema.Addr `json:"address"`
	Action  plan.Action `json:"action"`
}

// auditFormat is the format version of a line.
const auditFormat = 1

// AuditChanges gives the changes of a plan in the form of the audit log, in the
// plan's order. It is never nil.
func AuditChanges(p *plan.Plan) []AuditChange {
	list := []AuditChange{}
	if p == nil {
		return list
	}
	for i := range p.Changes {
		list = append(list, AuditChange{p.Changes[i].Address, p.Changes[i].Action})
	}
	return list
}

func (s *Store) auditPath() string { return filepath.Join(s.dir, "audit.ndjson") }

// MissingAudit gives the line that the current generation should have and has not:
// the process that recorded it ended before it could write it. nil when it has one.
// The caller writes it, before any other.
func (s *Store) MissingAudit() (*AuditEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.missingAudit()
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return e, nil
}

func (s *Store) missingAudit() (*AuditEntry, error) {
	rec, ok, err := s.current()
	if err != nil || !ok {
		return nil, err
	}
	last, err := lastAudit(s.auditPath())
	if err != nil || last >= rec.Number {
		return nil, err
	}
	who := rec.By
	if who.Via == "" {
		who.Via = ViaDaemon
	}
	return &AuditEntry{
		Time: rec.Created, Trigger: rec.Trigger, Who: who, Revision: rec.Revision, Generation: rec.Number,
		Result: AuditApplied, Changes: AuditChanges(rec.Plan), Overrides: rec.Overrides, SavedPlan: rec.SavedPlan, Recovered: true,
		PolicyChanged: rec.Plan != nil && len(rec.Plan.Policy) > 0,
	}, nil
}

// InterruptedAudit gives the lines that attempts should have, and have not, which the
// process before did not get to the end of. The caller writes each behind that of
// MissingAudit, and then calls Settled with its attempt: a start that is cut
// off in between finds the line written.
func (s *Store) InterruptedAudit() ([]Interrupted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var served uint64
	if rec, ok, err := s.current(); err == nil && ok {
		served = rec.Number
	}
	var list []Interrupted
	for _, u := range s.unfinished {
		if u.Recorded {
			continue
		}
		text := fmt.Sprintf("the process ended while generation %d was being made; nothing of it is left", u.Generation)
		e := AuditEntry{
			Time: u.Began, Began: u.Began, Trigger: u.Trigger, Who: Actor{Via: ViaDaemon}, Revision: u.Revision, Generation: served,
			Result: AuditInterrupted, Message: text, Changes: []AuditChange{}, Recovered: true,
		}
		written, err := hasAudit(s.auditPath(), &e)
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		one := Interrupted{Attempt: u.Attempt}
		if !written {
			one.Line = &e
		}
		list = append(list, one)
	}
	return list, nil
}

// Interrupted is an attempt that the end of a process cut off.
type Interrupted struct {
	Attempt Attempt
	Line    *AuditEntry // of the audit log; nil: it is written already
}

// auditTailSize is how much of the log's end is looked through for a line that the start
// before may have written, in bytes. It would be among its last ones.
const auditTailSize = 1 << 20

// hasAudit reports whether the end of the log has the line of an attempt that was not
// recorded: e, which tells that it was interrupted, or the one of its own end.
func hasAudit(path string, e *AuditEntry) (bool, error) {
	f, err := openState(path)
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	b := make([]byte, min(info.Size(), auditTailSize))
	if _, err := f.ReadAt(b, info.Size()-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	for line := range bytes.Lines(b) {
		var was AuditEntry
		if json.Unmarshal(line, &was) != nil || was.Revision != e.Revision || was.Trigger != e.Trigger {
			continue
		}
		// Older lines do not say when the attempt began, but for the time of these.
		if !e.Began.IsZero() && was.Began.Equal(e.Began) || was.Result == AuditInterrupted && was.Time.Equal(e.Time) {
			return true, nil
		}
	}
	return false, nil
}

// lastAudit gives the generation in the last whole line that tells of one applied; 0
// when there is none. What other lines say was served then proves nothing: the line
// for that generation may be lost, or an older one stood in for it.
func lastAudit(path string) (uint64, error) {
	f, err := openState(path)
	if missing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	// From the end, in blocks: the log grows for years.
	const block = 256 << 10
	var tail []byte
	for at := info.Size(); ; {
		for {
			i := bytes.LastIndexByte(bytes.TrimRight(tail, "\n"), '\n')
			if i < 0 && at > 0 {
				break // the line begins before what was read
			}
			var e AuditEntry
			if json.Unmarshal(tail[i+1:], &e) == nil && e.FormatVersion > 0 && e.Result == AuditApplied {
				return e.Generation, nil
			}
			if i < 0 {
				return 0, nil
			}
			tail = tail[:i]
		}
		if len(tail) > maxFile {
			return 0, errors.New("its last line is too long")
		}
		n := min(block, at)
		at -= n
		more := make([]byte, n, int(n)+len(tail))
		if _, err := f.ReadAt(more, at); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		tail = append(more, tail...)
	}
}
