package plan

import (
	"encoding/json"

	"github.com/dlreconcile/dlreconcile/schema"
)

// FormatVersion is the version of the JSON form of a plan.
const FormatVersion = 1

// Action is what happens to a resource. The set is closed.
type Action string

const (
	NoOp    Action = "no-op"
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace"
	Delete  Action = "delete"
)

// Reason is why an action is taken. The set is closed.
type Reason string

const (
	Created      Reason = "created"
	SpecChanged  Reason = "spec_changed"  // the block itself was edited
	InputChanged Reason = "input_changed" // something it refers to was
	Drift        Reason = "drift"
	Removed      Reason = "removed"
	Moved        Reason = "moved"
	Requested    Reason = "requested"
)

// Effect is what a change means for machines. The set is closed.
type Effect string

const (
	EffectLive       Effect = "live"       // seen at once, or at the next renewal
	EffectNextBoot   Effect = "next_boot"  // seen when the machine boots next
	EffectKeeps      Effect = "keeps"      // the machine keeps Artifact until it reboots
	EffectDiscards   Effect = "discards"   // data of the machine is thrown away
	EffectInterrupts Effect = "interrupts" // the machine loses something it uses
)

// Plan is the difference between a desired state and what is applied.
type Plan struct {
	FormatVersion  int      `json:"format_version"`
	Revision       *string  `json:"revision"`        // null for a dirty work tree
	BaseGeneration uint64   `json:"base_generation"` // 0: nothing is applied
	Changes        []Change `json:"changes"`         // sorted by address; no-ops left out but for those that are moved
	Summary        Summary  `json:"summary"`
	// Warnings say what would be applied all the same and not work for somebody.
	Warnings []Warning `json:"warnings"`
	// Policy says which rules of the policy differ. It is no resource, and a commit
	// that changes nothing else is one to apply all the same: see Pending.
	Policy []PolicyChange `json:"policy,omitempty"`
	// Variables names the sensitive variables that are given other values than what is
	// applied was made with. A commit that changes nothing else is one to apply, too.
	Variables []VariableChange `json:"variables,omitempty"`
	// Denied says which rules of the policy in force do not let the plan through.
	// An operator may override them by name.
	Denied []Denial `json:"denied"`
	// Waits says what the policy in force has the plan wait for before a daemon
	// applies it by itself. Without changes it waits for nothing.
	Waits []Wait `json:"waits"`
	// Targets, when not empty, says that changes, warnings and summary are only
	// those of these addresses and of what they need. Such a plan is to look at.
	Targets []schema.Addr `json:"targets,omitempty"`
}

// VariableChange is a sensitive variable with another value than before. Neither is
// known to a plan.
type VariableChange struct {
	Name string `json:"name"`
	// Followed says that all that uses it is among the changes; else what does is not
	// known.
	Followed bool `json:"followed"`
}

// Rule is a rule of a policy. The set is closed.
type Rule string

const (
	RuleMaxDelete  Rule = "max_delete"
	RuleAllowEmpty Rule = "allow_empty"
	RuleApprove    Rule = "approve"
	RuleWindow     Rule = "window"
)

// Denial is a rule of the policy in force that does not let a plan through.
type Denial struct {
	Rule    Rule         `json:"rule"` // RuleMaxDelete or RuleAllowEmpty
	Summary string       `json:"summary"`
	Detail  string       `json:"detail"` // why, and what to do when it is meant
	Range   schema.Range `json:"range"`  // of the rule, in the tree whose policy is in force; zero: nobody wrote it
}

// Wait is what the policy in force has a plan wait for. Whether it has come is not
// known here: a plan has no clock.
type Wait struct {
	Rule    Rule         `json:"rule"`    // RuleApprove or RuleWindow
	Summary string       `json:"summary"` // what is waited for: "the approval of an operator"
	Range   schema.Range `json:"range"`
}

// Warning is something that the operator should know before it is applied: it
// changes nothing.
type Warning struct {
	Summary  string       `json:"summary"`
	Detail   string       `json:"detail"`
	Machines []string     `json:"machines"` // as in Impact
	Range    schema.Range `json:"range"`
	// Refused says that apply will not do it.
	Refused bool `json:"refused"`
}

// Refused reports whether it is known that apply will not do the plan.
func (p *Plan) Refused() bool {
	for _, w := range p.Warnings {
		if w.Refused {
			return true
		}
	}
	return false
}

// Summary counts changes by action.
type Summary struct {
	Create  int `json:"create"`
	Update  int `json:"update"`
	Replace int `json:"replace"`
	Delete  int `json:"delete"`
	NoOp    int `json:"no_op"`
	Move    int `json:"move"` // of all of them, those that have another address now
}

// Change is what happens to one resource.
type Change struct {
	Address schema.Addr `json:"address"`
	// From is the address that it had before, with reason Moved. An Action beside
	// that says whether anything else differs: NoOp when nothing does.
	From   schema.Addr `json:"from,omitzero"`
	Action Action      `json:"action"`
	Reason Reason      `json:"reason"`
	// ForcedBy names, sorted, the attributes whose difference cannot be had
	// without discarding what is there. With Replace only.
	ForcedBy []string `json:"forced_by,omitempty"`
	// Inputs names, sorted, the resources that this one refers to, that change
	// too, and that change what is served for this one. It is why for
	// InputChanged, and goes beside any other reason.
	Inputs []schema.Addr `json:"inputs"`
	// Before and After hold the attributes that differ (all of them for create
	// and delete), by name, as canonical JSON. Sensitive values read
	// "(sensitive value)".
	Before map[string]json.RawMessage `json:"before"`
	After  map[string]json.RawMessage `json:"after"`
	// AfterUnknown names the attributes that only a build can tell.
	AfterUnknown []string     `json:"after_unknown"`
	Range        schema.Range `json:"range"` // of the block; for a delete, where it was
	Impact       []Impact     `json:"impact"`
}

// Impact says what a change means for which machines.
type Impact struct {
	Effect   Effect   `json:"effect"`
	Machines []string `json:"machines"` // host addresses, or MACs of machines without a host block; sorted; may be empty when data is discarded
	Artifact string   `json:"artifact,omitempty"`
	Detail   string   `json:"detail,omitempty"` // one phrase: "until it reboots"
}

// Applied is what a daemon serves, as a generation record says it.
type Applied struct {
	Generation uint64
	Revision   string
	Desired    *schema.Desired
	// Artifacts holds the digest of the artifact served for each recipe.
	Artifacts map[string]string
	// Variables is Plan.Variables, sorted by name: what nobody can see who has the
	// desired states only.
	Variables []VariableChange
}

// Input is everything that a plan depends on.
type Input struct {
	Revision *string // null for a dirty work tree
	Want     *schema.Desired
	Applied  *Applied // nil: nothing is applied
	// Built holds the digest of the artifact already in the store for a recipe:
	// these are known before they are applied.
	Built map[string]string
	// Kernels holds what is known of the kernel of each artifact that is in the
	// store, by recipe.
	Kernels      map[string]Kernel
	Observations []Observation
	// Targets, when not empty, limits what the plan shows: see Plan.Targets. An
	// address without a key means all instances of the block, and one of a module,
	// "module.rack" or `module.rack["a"]`, all that is in it.
	Targets []schema.Addr
}

// Kernel is what a plan needs to know of a built kernel.
type Kernel struct {
	Arch   string `json:"arch"`   // Debian architecture
	Signed bool   `json:"signed"` // for UEFI Secure Boot
}
