package api

import (
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/schema"
)

// ApplyRequest is the body of POST /v1/apply.
type ApplyRequest struct {
	// Revision to apply; "" is the tip of the tracked ref.
	Revision string `json:"revision,omitempty"`
	// Tip says that Revision is only wanted because the tracked ref was at it: that it
	// does not follow the commit that was trusted last is then a reason to refuse it.
	Tip bool `json:"tip,omitempty"`
	// Generation that the caller's plan was made against. When it is given and
	// another one is served, nothing is applied.
	Generation *uint64 `json:"generation,omitempty"`
	// Saved is the file of a saved plan, which says the two above itself.
	Saved []byte `json:"saved,omitempty"`
	// Overrides names rules of the policy to pass: max_delete, allow_empty, window.
	Overrides []string `json:"overrides,omitempty"`
	// Try, when not "", is for how long the generation is served on trial ("60s",
	// "5m"): unless it is confirmed by then, the one before is served again.
	Try string `json:"try,omitempty"`
}

// ReleaseRequest is the body of POST /v1/release. Without a revision the hold and the
// refusal of the tip are given up.
type ReleaseRequest struct {
	Revision string `json:"revision,omitempty"`
}

// ConfirmRequest is the body of POST /v1/confirm. Generation, when not 0, is the one
// that must be on trial.
type ConfirmRequest struct {
	Generation uint64 `json:"generation,omitempty"`
}

// SuspendRequest is the body of POST /v1/suspend; see engine.SuspendOrder.
type SuspendRequest struct {
	Hosts  []string `json:"hosts,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// ResumeRequest is the body of POST /v1/resume. Without hosts everything else goes on.
type ResumeRequest struct {
	Hosts []string `json:"hosts,omitempty"`
}

// SavePlanRequest is the body of POST /v1/plan, whose answer is a saved plan.
type SavePlanRequest struct {
	// Revision to plan; "" is the tip of the tracked ref.
	Revision string `json:"revision,omitempty"`
	WorkTree bool   `json:"work_tree,omitempty"` // see engine.Bound
}

// RollbackRequest is the body of POST /v1/rollback. Generation 0 is the one
// before the one that is served.
type RollbackRequest struct {
	Generation uint64 `json:"generation,omitempty"`
}

// Line is one line of the answer to apply, rollback, release, confirm, suspend and
// resume: a status while the work goes on, and at last an outcome or an error.
type Line struct {
	Status  *engine.Status  `json:"status,omitempty"`
	Outcome *engine.Outcome `json:"outcome,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// HistoryEntry is one recorded generation.
type HistoryEntry struct {
	Generation   uint64    `json:"generation"`
	Revision     string    `json:"revision"`
	Subject      string    `json:"subject,omitempty"`
	Created      time.Time `json:"created"`
	Trigger      string    `json:"trigger"`
	RolledBackTo uint64    `json:"rolled_back_to,omitempty"`
	Current      bool      `json:"current"`
}

// Problem is the body of every answer that is not 2xx.
type Problem struct {
	Error       string              `json:"error"`
	Diagnostics []schema.Diagnostic `json:"diagnostics,omitempty"` // when the configuration is wrong
}
