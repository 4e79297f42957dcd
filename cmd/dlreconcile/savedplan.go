package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/google/renameio/v2"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/schema"
)

// maxPlanFile bounds what is read as a kept plan: one for 100,000 hosts is smaller.
const maxPlanFile = 256 << 20

// savePlan keeps p in a file: the same JSON that --json prints.
func savePlan(file string, p *plan.Plan) error {
	b, err := p.JSON()
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(file, b, 0o644); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}

// readPlan reads what savePlan wrote.
func readPlan(file string) (*plan.Plan, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("the plan: %w: name a file that `dlreconcile plan --out FILE` wrote", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPlanFile+1))
	if err != nil {
		return nil, fmt.Errorf("the plan: %w", err)
	}
	var p plan.Plan
	switch err := json.Unmarshal(b, &p); {
	case len(b) > maxPlanFile:
		return nil, fmt.Errorf("the plan %s has more than %d bytes", file, maxPlanFile)
	case err != nil || p.FormatVersion == 0:
		return nil, fmt.Errorf("%s is not a plan: name a file that `dlreconcile plan --out FILE` wrote", file)
	case p.FormatVersion != plan.FormatVersion:
		return nil, fmt.Errorf("the plan %s is of format %d, and this program has format %d: plan again", file, p.FormatVersion, plan.FormatVersion)
	case p.Revision == nil:
		return nil, fmt.Errorf("the plan %s is of files that were not committed, and only a commit can be applied: commit, and plan again", file)
	}
	return &p, nil
}

// stale says why what would be done now is not what was planned; nil when it is.
// What a change means for machines may differ: they boot and go away meanwhile. So
// may what only a build could tell, which a build has told since.
func stale(planned, now *plan.Plan) error {
	why := func(text string) error {
		return &engine.Failure{
			Revision: *planned.Revision, Stage: engine.PhasePlanning, Reason: engine.ReasonStale,
			Message: "the plan is stale: " + text + "; plan again",
		}
	}
	if planned.BaseGeneration != now.BaseGeneration {
		return why(fmt.Sprintf("it was made against generation %d, but generation %d is served", planned.BaseGeneration, now.BaseGeneration))
	}
	if now.Revision == nil || *planned.Revision != *now.Revision {
		return why("the repo gives another commit for it")
	}
	if len(planned.Changes) != len(now.Changes) {
		return why(fmt.Sprintf("it has %s, and now it would be %d", count(len(planned.Changes), "change", "changes"), len(now.Changes)))
	}
	for i := range planned.Changes {
		if a, b := &planned.Changes[i], &now.Changes[i]; !sameChange(a, b) {
			return why(fmt.Sprintf("it says something else of %s than what would be done now, perhaps because the daemon has other values of variables", a.Address))
		}
	}
	return nil
}

func sameChange(a, b *plan.Change) bool {
	if a.Address != b.Address || a.Action != b.Action {
		return false
	}
	known := func(name string) bool {
		return !slices.Contains(a.AfterUnknown, name) && !slices.Contains(b.AfterUnknown, name)
	}
	for _, v := range []struct{ a, b map[string]json.RawMessage }{{a.Before, b.Before}, {a.After, b.After}} {
		for name := range v.a {
			if _, ok := v.b[name]; !ok && known(name) {
				return false
			}
		}
		for name, value := range v.b {
			if was, ok := v.a[name]; known(name) && (!ok || !sameJSON(was, value)) {
				return false
			}
		}
	}
	return slices.EqualFunc(a.Inputs, b.Inputs, func(x, y schema.Addr) bool { return x == y })
}

// sameJSON compares values whatever their white space.
func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
