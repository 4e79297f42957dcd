package provider

import (
	"context"
	"io/fs"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Provider serves one family of resources. The engine calls Prepare, Commit,
// Abort and Retire from one goroutine; Answer and Observe come from any.
//
// The life of one:
//
//  1. Run is started once, before anything is prepared. It owns every goroutine
//     and socket of the provider, and returns when all of them are gone.
//  2. Prepare is called for each generation that must be servable: at start for
//     the current one and for those that clients are pinned to, later for each
//     new one. Several may have been committed at the same time; exactly one of
//     those, the last committed with Retained false, is current.
//  3. Commit publishes, or Abort forgets.
//  4. Retire drops what no client needs any more, again and again.
type Provider interface {
	// Name is the provider's short name, used in logs, status and answers:
	// "image", "export", "bootloader", "dhcp".
	Name() string

	// Kinds lists the block kinds that this provider serves, as in
	// schema.Addr.Kind, with the type after a dot where only some types are
	// served: "export.nbd". The engine refuses to apply a resource that no
	// provider claims.
	Kinds() []string

	// Run serves until ctx ends. Sockets that were committed before or during
	// Run are served by it; it closes all of them before it returns. It returns
	// nil when ctx ended, and an error when the provider cannot go on at all.
	Run(ctx context.Context) error

	// Prepare does everything that can fail or take long: builds, opens every
	// file that will be served, binds new sockets (which answer nothing before
	// Commit), compiles tables. It writes only to the content store and to
	// scratch space, and leaves no scratch behind, whatever happens. It changes
	// nothing that a client can see. Calling it again with the same input does
	// no work twice. Errors that the author of the configuration can mend are
	// hcl.Diagnostics with a range.
	Prepare(ctx context.Context, in Input) (Txn, error)

	// Answer says what the machine in q would get from this provider, computed
	// from the published table of q.Generation by the same functions that answer
	// packets. It is pure and never blocks. An unknown generation gives no
	// answers.
	Answer(q Query) []Answer

	// Retire drops tables of generations that live does not hold, and sockets
	// that no remaining table declares. It is level-triggered and idempotent,
	// keeps the current generation always, and never waits for a client: what is
	// still in use goes at a later call.
	Retire(ctx context.Context, live Live) error

	// Observe reports what the provider sees of the running world.
	Observe(ctx context.Context) ([]plan.Observation, error)
}

// Input is what Prepare works from. It is read-only.
type Input struct {
	// Generation is the number that the tables made from this input carry.
	Generation uint64
	Want       *schema.Desired
	// Plan is what the operator was shown; nil when Offline.
	Plan *plan.Plan
	// Files is the tree of the commit; nil when Offline.
	Files fs.FS
	// Built holds the outputs of the providers before this one.
	Built map[schema.Addr]Output
	// Artifacts holds, by recipe, the artifacts that the generation's record
	// names. Used instead of building when Offline.
	Artifacts map[string]Artifact
	// Blobs holds, by resource, what Output.Blobs was when the generation was
	// recorded. Used instead of looking around when Offline.
	Blobs map[schema.Addr]map[string]Blob
	// Offline forbids building and fetching: what is needed must be in the store.
	Offline bool
	// Retained says that this generation is prepared for the clients pinned to
	// it; its Commit must not make it the current one. The sockets that machines
	// of it come back to (NBD, HTTP, TFTP; not DHCP) are bound too, after those
	// of the current generation and as far as they can be: one that cannot is
	// logged, and fails nothing.
	Retained bool
	// Progress, when set, is told how long work goes on. It may be called from
	// any goroutine and does not block.
	Progress func(Progress)
}

// Report calls in.Progress if there is one.
func (in Input) Report(p Progress) {
	if in.Progress != nil {
		in.Progress(p)
	}
}

// Progress is one line about long work.
type Progress struct {
	Addr  schema.Addr `json:"address"`
	Step  string      `json:"step"`            // "debootstrap", "mkfs.ext4", …
	Text  string      `json:"text"`            // one line for people
	Done  int64       `json:"done,omitempty"`  // of Total; 0 when unknown
	Total int64       `json:"total,omitempty"` // 0 when unknown
}

// Txn is one prepared change. Exactly one of Commit and Abort takes effect, once;
// Abort after Commit does nothing.
type Txn interface {
	// Outputs gives what the providers after this one need.
	Outputs() map[schema.Addr]Output
	// Answer is Provider.Answer, from the table about to be published.
	Answer(q Query) []Answer
	// Commit publishes. It touches memory only, cannot fail and does not block.
	Commit()
	// Abort frees memory and sockets that Prepare took; what it put into the
	// content store stays. Idempotent.
	Abort()
}

// Live says what must be kept.
type Live struct {
	// Generations that some client is pinned to: a boot session, an unexpired
	// lease, a machine that is up.
	Generations map[uint64]bool
}
