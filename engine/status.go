package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Phase says what the loop is doing. The set is closed.
type Phase string

const (
	PhaseStarting  Phase = "starting"
	PhaseIdle      Phase = "idle"
	PhaseVerifying Phase = "verifying" // whether the commit may be trusted
	PhaseLoading   Phase = "loading"
	PhasePlanning  Phase = "planning"
	PhaseGating    Phase = "gating"  // asking the policy
	PhaseWaiting   Phase = "waiting" // see Status.Waiting; nothing else is under way
	PhasePreparing Phase = "preparing"
	PhaseChecking  Phase = "checking"
	PhaseRecording Phase = "recording"
)

// Status is what the daemon says of itself.
type Status struct {
	Seq        uint64    `json:"seq"` // goes up with every change of any other field
	Phase      Phase     `json:"phase"`
	Generation uint64    `json:"generation"` // served; 0: nothing
	Revision   string    `json:"revision"`   // of that generation
	Subject    string    `json:"subject,omitempty"`
	Since      time.Time `json:"since,omitzero"` // when it was recorded
	// Tip is the newest commit seen, and Synced the newest whose desired state
	// is the one that is served.
	Tip        string `json:"tip,omitempty"`
	TipSubject string `json:"tip_subject,omitempty"`
	Synced     string `json:"synced,omitempty"`
	// Polls counts the looks at the repo since the start, whatever came of them.
	Polls      uint64              `json:"polls"`
	Held       *Hold               `json:"held,omitempty"`
	Waiting    *Waiting            `json:"waiting,omitempty"` // why the tip is not applied yet
	Attempt    string              `json:"attempt,omitempty"` // revision being worked on
	Progress   []provider.Progress `json:"progress,omitempty"`
	Failure    *Failure            `json:"failure,omitempty"`     // why the tip is not served
	RepoError  string              `json:"repo_error,omitempty"`  // why the repo cannot be read
	RepoSince  time.Time           `json:"repo_since,omitzero"`   // since when it cannot be
	RepoRead   time.Time           `json:"repo_read,omitzero"`    // when it was read last since the start
	ServeError string              `json:"serve_error,omitempty"` // what broke while serving
	// Uncollected says why artifacts that may not be needed any more are kept; all machines
	// are served meanwhile.
	Uncollected string `json:"uncollected,omitempty"`
	// Trusted is the newest commit of the tracked ref that was verified and served.
	Trusted string `json:"trusted,omitempty"`
	// Quarantined lists the revisions that are not tried by themselves, oldest first.
	Quarantined []store.Quarantine `json:"quarantined,omitempty"`
	// Suspended, when not nil, says that commits wait until `resume`.
	Suspended *store.Suspension `json:"suspended,omitempty"`
	// SuspendedHosts lists the machines whose next boots stay on a generation, by the
	// address of the host.
	SuspendedHosts map[string]store.Suspension `json:"suspended_hosts,omitempty"`
	// Try, when not nil, is the generation that is served on trial. Tried says what
	// became of the last one since the start, or at it.
	Try   *store.Try `json:"try,omitempty"`
	Tried *Tried     `json:"tried,omitempty"`
	// Drift is what is not as it was published, as far as is known.
	Drift []provider.Drift `json:"drift,omitempty"`
	// Unwatched says which drift nobody looks for, by the daemon's settings.
	Unwatched []string `json:"unwatched,omitempty"`
	// HostKey is the public half of the key that saved plans are signed with.
	HostKey    string      `json:"host_key,omitempty"`
	Conditions []Condition `json:"conditions"`

	lastRefused *store.Held // see noteRefusal
	// unkept is what of Quarantined the disk did not take: gone at the next start.
	unkept []store.Quarantine
}

// Hold says that a revision is skipped until a newer commit or a release.
type Hold struct {
	Revision string    `json:"revision"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since,omitzero"`
}

// stored gives the form that is kept on disk; nil stays nil.
func (h *Hold) stored() *store.Held {
	if h == nil {
		return nil
	}
	return &store.Held{Revision: h.Revision, Reason: h.Reason, Since: h.Since}
}

// holdOf undoes stored.
func holdOf(h *store.Held) *Hold {
	if h == nil {
		return nil
	}
	return &Hold{Revision: h.Revision, Reason: h.Reason, Since: h.Since}
}

// Failure is why a revision was not applied.
type Failure struct {
	Revision    string              `json:"revision"`
	Stage       Phase               `json:"stage"`
	Reason      string              `json:"reason"` // ReasonInvalid and so on
	Message     string              `json:"message"`
	Diagnostics []schema.Diagnostic `json:"diagnostics,omitempty"`
	At          time.Time           `json:"at,omitzero"`
	Retry       bool                `json:"retry"`             // the same revision is tried again by itself
	NextTry     time.Time           `json:"next_try,omitzero"` // when, about
	settings    string              // digest of those it was judged by
	// Cause says more of a Reason: of "machine" one of CauseDisk and so on, of
	// "untrusted" one of the reasons of engine/source, of "denied" CauseSuspended when it
	// is for that; else "".
	Cause string `json:"cause,omitempty"`
}

// Error gives the message, and for a list of diagnostics the first.
func (f *Failure) Error() string { return f.Message }

// Reasons of a failure. The set is closed.
const (
	ReasonInvalid   = "invalid"   // the configuration is wrong: diagnostics say where
	ReasonMachine   = "machine"   // this machine could not do it: disk, port, program
	ReasonCancelled = "cancelled" // something newer came, the daemon stops, or the operator declined
	ReasonStale     = "stale"     // what the caller saw is no longer so
	ReasonDenied    = "denied"    // the policy does not let it through: diagnostics say which rule
	ReasonUntrusted = "untrusted" // its signature or its history: see source.UntrustedError
	ReasonReverted  = "reverted"  // it was served on trial, and nobody confirmed it
)

// cancelled is the Failure of a job that was given up before it failed by itself.
func (e *Engine) cancelled(j *job, why error) *Failure {
	return &Failure{Revision: j.rev.Hash, Stage: PhaseLoading, Reason: ReasonCancelled, Message: why.Error(), At: e.now()}
}

// failure makes a Failure of an error.
func failure(rev string, stage Phase, err error, at time.Time) *Failure {
	f := &Failure{Revision: rev, Stage: stage, Message: err.Error(), At: at}
	var already *Failure
	var diags hcl.Diagnostics
	switch {
	case errors.As(err, &already):
		return already
	case errors.As(err, &diags):
		f.Reason = ReasonInvalid
		f.Diagnostics = schema.ToDiagnostics(diags)
	case errors.Is(err, source.ErrLimit), errors.Is(err, source.ErrSubmodule), errors.Is(err, source.ErrLFS), errors.Is(err, source.ErrEscapes), errors.Is(err, source.ErrMalformed):
		f.Reason = ReasonInvalid // the commit is like that, and stays so
	default:
		f.Reason, f.Retry, f.Cause = ReasonMachine, true, causeOf(err)
	}
	return f
}

// Status gives a copy of the present status, and a channel that is closed at its
// next change.
func (e *Engine) Status() (Status, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
	s.Progress = append([]provider.Progress(nil), s.Progress...)
	s.Conditions = slices.Clone(s.Conditions)
	s.Drift = slices.Clone(s.Drift)
	return s, e.changed
}

// update changes the status under the lock and tells who waits.
func (e *Engine) update(f func(*Status)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.status)
	e.tell()
}

// tell wakes who waits for a change. The caller holds e.mu.
func (e *Engine) tell() {
	e.status.Seq++
	e.status.reassess(e.now)
	e.measure(&e.told, &e.status)
	e.noteChanges(&e.told, &e.status)
	e.told = e.status
	close(e.changed)
	e.changed = make(chan struct{})
}

// progress keeps the newest line of each step of each resource, while the attempt
// whose context is ctx is under way: a build may outlive it.
func (e *Engine) progress(ctx context.Context, p provider.Progress) {
	if e.report != nil {
		e.report(p)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.status
	if ctx.Err() != nil || s.Attempt == "" {
		return
	}
	const most = 64
	s.Progress = slices.DeleteFunc(slices.Clone(s.Progress), func(old provider.Progress) bool {
		return old.Addr == p.Addr && old.Step == p.Step
	})
	s.Progress = append(s.Progress, p)
	s.Progress = s.Progress[max(0, len(s.Progress)-most):]
	e.tell()
}

// Outcome is what an apply, a rollback or a release came to.
type Outcome struct {
	Generation uint64     `json:"generation"` // served now
	Revision   string     `json:"revision"`
	Plan       *plan.Plan `json:"plan,omitempty"` // what was applied: exactly this
	Held       *Hold      `json:"held,omitempty"`
	Failure    *Failure   `json:"failure,omitempty"`
	// Try says that the generation is on trial.
	Try *store.Try `json:"try,omitempty"`

	waiting *Waiting      // the attempt is to be made again later; then Failure is nil
	ends    time.Duration // of Config.Elapsed: when the trial does
}
