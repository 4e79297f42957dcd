package plan_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/tools/txtar"

	"github.com/dlreconcile/dlreconcile/engine/plan"
)

var schemaFile = filepath.Join("..", "..", "docs", "plan.schema.json")

func planSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	s, err := c.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func document(t *testing.T, text string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Every golden plan is what docs/plan.schema.json promises.
func TestGoldenPlansFollowTheSchema(t *testing.T) {
	s := planSchema(t)
	for _, file := range storyFiles(t) {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range ar.Files {
			if f.Name != "plan.json" {
				continue
			}
			found = true
			if err := s.Validate(document(t, string(f.Data))); err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
			}
		}
		if !found {
			t.Errorf("%s has no plan.json", file)
		}
	}
}

// The schema is tight: what no plan says, it refuses.
func TestSchemaRefuses(t *testing.T) {
	s := planSchema(t)
	const whole = `{"base_generation":1,"changes":[{"action":"update","address":"image.a","after":{},"after_unknown":[],"before":{},` +
		`"impact":[{"effect":"live","machines":["host.a"]}],"inputs":[],"range":"site.hcl:1,1","reason":"drift"}],"denied":[],"format_version":1,` +
		`"revision":null,"summary":{"create":0,"delete":0,"move":0,"no_op":0,"replace":0,"update":1},"waits":[],"warnings":[]}`
	if err := s.Validate(document(t, whole)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ why, old, new string }{
		{"another format", `"format_version":1`, `"format_version":2`},
		{"an unknown member", `"denied":[]`, `"denied":[],"time":"now"`},
		{"an unknown member of a change", `"inputs":[]`, `"inputs":[],"comment":""`},
		{"an unknown action", `"update","address"`, `"dance","address"`},
		{"an unknown reason", `"drift"`, `"whim"`},
		{"an unknown effect", `"live"`, `"explodes"`},
		{"a missing list", `"waits":[],`, ``},
		{"null for a list", `"inputs":[]`, `"inputs":null`},
		{"a place without a column", `site.hcl:1,1`, `site.hcl:1`},
		{"a replacement that nothing forces", `"update","address"`, `"replace","address"`},
		{"force without a replacement", `"inputs":[]`, `"inputs":[],"forced_by":["image"]`},
		{"moved from nowhere", `"drift"`, `"moved"`},
		{"from without a move", `"inputs":[]`, `"inputs":[],"from":"image.b"`},
		{"nothing done for no reason", `"update","address"`, `"no-op","address"`},
		{"created by drift", `"update","address"`, `"create","address"`},
		{"deleted by drift", `"update","address"`, `"delete","address"`},
		{"an unknown rule", `"denied":[]`, `"denied":[{"rule":"mood","summary":"a","detail":"b","range":""}]`},
		{"denied by a window", `"denied":[]`, `"denied":[{"rule":"window","summary":"a","detail":"b","range":""}]`},
		{"a negative count", `"move":0`, `"move":-1`},
	} {
		text := strings.Replace(whole, tc.old, tc.new, 1)
		if text == whole {
			t.Fatalf("%s: nothing is replaced", tc.why)
		}
		if err := s.Validate(document(t, text)); err == nil {
			t.Errorf("%s is let through", tc.why)
		}
	}
}

// The closed sets of the schema are those of the code.
func TestSchemaHasTheClosedSets(t *testing.T) {
	raw, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	enum := func(path ...string) []string {
		v := doc
		for _, p := range append(path, "enum") {
			v = v.(map[string]any)[p]
		}
		var list []string
		for _, s := range v.([]any) {
			list = append(list, s.(string))
		}
		return list
	}
	change := []string{"$defs", "change", "properties"}
	for _, tc := range []struct{ want, got []string }{
		{text(plan.NoOp, plan.Create, plan.Update, plan.Replace, plan.Delete), enum(append(change, "action")...)},
		{text(plan.Created, plan.SpecChanged, plan.InputChanged, plan.Drift, plan.Removed, plan.Moved, plan.Requested), enum(append(change, "reason")...)},
		{text(plan.EffectLive, plan.EffectNextBoot, plan.EffectKeeps, plan.EffectDiscards, plan.EffectInterrupts), enum("$defs", "impact", "properties", "effect")},
		{text(plan.RuleMaxDelete, plan.RuleAllowEmpty), enum("$defs", "denial", "properties", "rule")},
		{text(plan.RuleApprove, plan.RuleWindow), enum("$defs", "wait", "properties", "rule")},
		{text(plan.RuleAllowEmpty, plan.RuleApprove, plan.RuleMaxDelete, plan.RuleWindow), enum("$defs", "policy_change", "properties", "rule")},
	} {
		if d := cmp.Diff(tc.want, tc.got); d != "" {
			t.Errorf("enum (-code +schema):\n%s", d)
		}
	}
}

func text[T ~string](list ...T) []string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}
