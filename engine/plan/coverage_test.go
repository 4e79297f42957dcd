package plan_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/dlreconcile/dlreconcile/engine/plan"
)

// The stories show every member of every closed set.
func TestStoriesCoverTheClosedSets(t *testing.T) {
	seen := map[string]bool{}
	var texts []string
	for _, file := range storyFiles(t) {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range ar.Files {
			if f.Name == "plan.txt" || f.Name == "plan.md" {
				texts = append(texts, string(f.Data))
			}
			if f.Name != "plan.json" {
				continue
			}
			var p plan.Plan
			if err := json.NewDecoder(bytes.NewReader(f.Data)).Decode(&p); err != nil {
				t.Fatal(err)
			}
			for _, c := range p.Changes {
				seen["action "+string(c.Action)], seen["reason "+string(c.Reason)] = true, true
				seen["module"] = seen["module"] || c.Address.Module != ""
				for _, im := range c.Impact {
					seen["effect "+string(im.Effect)] = true
				}
			}
			for _, w := range p.Warnings {
				seen["warning"], seen["refused"] = true, seen["refused"] || w.Refused
			}
			for _, d := range p.Denied {
				seen["denied "+string(d.Rule)] = true
			}
			for _, w := range p.Waits {
				seen["waits "+string(w.Rule)] = true
			}
			seen["targets"] = seen["targets"] || len(p.Targets) > 0
		}
	}
	want := slices.Concat(
		prefixed("action", plan.NoOp, plan.Create, plan.Update, plan.Replace, plan.Delete),
		prefixed("reason", plan.Created, plan.SpecChanged, plan.InputChanged, plan.Drift, plan.Removed, plan.Moved, plan.Requested),
		prefixed("effect", plan.EffectLive, plan.EffectNextBoot, plan.EffectKeeps, plan.EffectDiscards, plan.EffectInterrupts),
		prefixed("denied", plan.RuleMaxDelete, plan.RuleAllowEmpty),
		prefixed("waits", plan.RuleApprove, plan.RuleWindow),
		[]string{"module", "warning", "refused", "targets"},
	)
	for _, w := range want {
		if !seen[w] {
			t.Errorf("no story has %s", w)
		}
	}
	all := strings.Join(texts, "\n")
	for _, phrase := range []string{"(known after build)", "(sensitive value)", "# forces replacement", "moved from", " more\n", " unchanged\n", "Warning: ", "Refused: ", "Denied: ", "Waits for: "} {
		if !strings.Contains(all, phrase) {
			t.Errorf("no story shows %q", phrase)
		}
	}
}

func prefixed[T ~string](what string, list ...T) []string {
	var out []string
	for _, s := range list {
		out = append(out, what+" "+string(s))
	}
	return out
}
