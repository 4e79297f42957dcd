package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

var update = flag.Bool("update", false, "rewrite docs/openapi.yaml below its last comment")

const (
	openAPIFile = "../../docs/openapi.yaml"
	openAPIMark = "    # What follows is written by `make generate`, from the Go types and their comments.\n"
)

// described are the types that the paths of docs/openapi.yaml name.
var described = []reflect.Type{
	reflect.TypeFor[ApplyRequest](), reflect.TypeFor[RollbackRequest](), reflect.TypeFor[ReleaseRequest](), reflect.TypeFor[ConfirmRequest](),
	reflect.TypeFor[SuspendRequest](), reflect.TypeFor[ResumeRequest](), reflect.TypeFor[SavePlanRequest](), reflect.TypeFor[Line](),
	reflect.TypeFor[Problem](), reflect.TypeFor[HistoryEntry](), reflect.TypeFor[engine.Status](), reflect.TypeFor[engine.Observed](),
	reflect.TypeFor[engine.SavedPlan](), reflect.TypeFor[plan.Plan](), reflect.TypeFor[node.Node](), reflect.TypeFor[explain.Result](),
	reflect.TypeFor[ArtifactEntry](), reflect.TypeFor[ResetRequest](), reflect.TypeFor[PromoteRequest](),
	reflect.TypeFor[provider.Overlay](), reflect.TypeFor[provider.OverlayDiff](), reflect.TypeFor[provider.Promoted](),
	reflect.TypeFor[provider.Note](), reflect.TypeFor[provider.EventKind](), reflect.TypeFor[provider.AnswerKind](),
}

// The schemas of docs/openapi.yaml are those of the Go types.
func TestOpenAPIIsOfTheTypes(t *testing.T) {
	b, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	head, tail, ok := strings.Cut(string(b), openAPIMark)
	if !ok {
		t.Fatalf("%s has no line %q", openAPIFile, openAPIMark)
	}
	w := &schemaWriter{t: t, own: map[string]bool{"Event": true, "Files": true}, named: map[string]reflect.Type{}, docs: map[string]*packageDocs{}}
	for _, typ := range described {
		w.of(typ)
	}
	if want := w.text(); tail != want {
		if !*update {
			t.Fatalf("%s is not of the types any more: run `make generate`", openAPIFile)
		}
		if err := os.WriteFile(openAPIFile, []byte(head+openAPIMark+want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func loadOpenAPI(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// Every route is described, and every description is of a route: its role, whether it
// wants If-Match, and the answers that follow from the two.
func TestOpenAPIIsOfTheRoutes(t *testing.T) {
	doc := loadOpenAPI(t)
	described := map[string]*openapi3.Operation{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			described[method+" "+path] = op
		}
	}
	for _, rt := range Routes() {
		what := rt.Method + " " + rt.Path
		op := described[what]
		if op == nil {
			t.Errorf("docs/openapi.yaml does not describe %s", what)
			continue
		}
		delete(described, what)
		if op.Extensions["x-role"] != rt.Role.String() {
			t.Errorf("%s: x-role is %v, and it takes %s", what, op.Extensions["x-role"], rt.Role)
		}
		match := op.Parameters.GetByInAndName("header", "If-Match")
		if (match != nil) != rt.Changes || match != nil && !match.Required {
			t.Errorf("%s: If-Match is %+v, and Changes is %v", what, match, rt.Changes)
		}
		for code, want := range map[int]bool{401: true, 403: true, 429: true, 412: rt.Changes, 428: rt.Changes} {
			if got := op.Responses.Status(code) != nil; got != want {
				t.Errorf("%s: describes the answer %d: %v", what, code, got)
			}
		}
		if op.Summary == "" {
			t.Errorf("%s has no summary", what)
		}
	}
	for what := range described {
		t.Errorf("docs/openapi.yaml describes %s, which is no route", what)
	}
}

// The parameters that handlers read are those that are described.
func TestOpenAPIHasTheParameters(t *testing.T) {
	read := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	query := regexp.MustCompile(`(?:Query\(\)|\bv)(?:\.Get\(|\[)"(\w+)"`)
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range query.FindAllSubmatch(b, -1) {
			read[string(m[1])] = true
		}
	}
	said := map[string]bool{}
	for _, item := range loadOpenAPI(t).Paths.Map() {
		for _, op := range item.Operations() {
			for _, p := range op.Parameters {
				if p.Value.In == "query" {
					said[p.Value.Name] = true
				}
			}
		}
	}
	if len(read) < 8 || !reflect.DeepEqual(read, said) {
		t.Errorf("handlers read %v, and docs/openapi.yaml has %v", read, said)
	}
}

// Real answers of every route are what is described.
func TestAnswersAreAsDescribed(t *testing.T) {
	doc := loadOpenAPI(t)
	d := newDaemon(t, withToken(t, "viewer", RoleViewer), withToken(t, "admin", RoleAdmin))
	d.served(1)
	n := d.onNetwork(nil)
	two := d.repo.commit(site("two"))
	bad := d.repo.commit("server \"main\" {\n  adress = \"10.0.0.1\"\n}\n")
	d.repo.back(two)
	mac := provider.MAC{0x52, 0x54, 0, 0, 0, 1}
	if _, err := d.nodes.Boot(provider.Contact{MAC: mac, Discover: true, Vendor: "PXEClient"}); err != nil {
		t.Fatal(err)
	}
	d.nodes.Event(provider.Event{Kind: provider.EventAck, MAC: mac, Vendor: "PXEClient", Generation: 1, Protocol: "dhcp"})

	answered := map[string]bool{}
	try := func(token, method, target, body, match string, code int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, n.url+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+tokenOf(token))
		}
		if match != "" {
			req.Header.Set("If-Match", match)
		}
		resp, err := n.as("").http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		path, _, _ := strings.Cut(target, "?")
		what := fmt.Sprintf("%s %s: %d", method, target, resp.StatusCode)
		if resp.StatusCode != code {
			t.Errorf("%s, want %d: %s", what, code, b)
			return
		}
		if code/100 == 2 {
			answered[method+" "+path] = true
		}
		op := doc.Paths.Value(path).GetOperation(method)
		if req := op.RequestBody; req != nil && body != "" && code/100 == 2 {
			conforms(t, what+", its body", req.Value.Content.Get("application/json").Schema, []byte(body))
		}
		answer := op.Responses.Status(code)
		if answer == nil {
			t.Errorf("%s is not described", what)
			return
		}
		kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
		if len(answer.Value.Content) == 0 {
			if len(b) > 0 {
				t.Errorf("%s has a body, which is not described", what)
			}
			return
		}
		media := answer.Value.Content[kind]
		switch {
		case media == nil:
			t.Errorf("%s: %q is not described", what, kind)
		case kind == "application/x-ndjson":
			lines := 0
			for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); lines++ {
				conforms(t, what, media.Schema, sc.Bytes())
			}
			if lines == 0 {
				t.Errorf("%s: no line", what)
			}
		case kind == "application/json":
			conforms(t, what, media.Schema, b)
		case kind == "application/yaml":
			if want, err := os.ReadFile(openAPIFile); err != nil || !bytes.Equal(b, want) {
				t.Errorf("%s: it is another file, %v", what, err)
			}
		}
	}

	try("viewer", "GET", "/v1/openapi.yaml", "", "", 200)
	try("viewer", "GET", "/v1/status", "", "", 200)
	try("viewer", "GET", "/v1/status?wait=soon", "", "", 400)
	try("", "GET", "/v1/status", "", "", 401)
	try("viewer", "GET", "/v1/plan", "", "", 200)
	try("viewer", "GET", "/v1/plan?revision="+bad, "", "", 422)
	try("viewer", "POST", "/v1/plan", "", "", 403)
	try("admin", "POST", "/v1/plan", `{"revision": "`+two+`", "work_tree": true}`, "", 200)
	try("admin", "POST", "/v1/plan", `{"revision": 1}`, "", 400)
	try("viewer", "GET", "/v1/nodes", "", "", 200)
	try("viewer", "GET", "/v1/drift", "", "", 200)
	try("viewer", "GET", "/v1/explain?machine=ws01", "", "", 200)
	try("viewer", "GET", "/v1/explain?all=1&file=pxelinux.0", "", "", 200)
	try("viewer", "GET", "/v1/explain", "", "", 400)
	try("viewer", "GET", "/metrics", "", "", 200)
	try("admin", "POST", "/v1/apply", "", "", 428)
	try("admin", "POST", "/v1/apply", "", `"5"`, 412)
	try("viewer", "POST", "/v1/apply", "", "*", 403)
	try("admin", "POST", "/v1/apply", `{"revision": "`+two+`", "overrides": ["window"]}`, `"1"`, 200)
	try("admin", "POST", "/v1/apply", `{"revision": "`+bad+`"}`, `"2"`, 200) // its outcome says why not
	try("admin", "POST", "/v1/suspend", `{"reason": "night", "hosts": []}`, "*", 200)
	try("viewer", "GET", "/v1/status", "", "", 200)
	try("admin", "POST", "/v1/resume", `{"hosts": []}`, "*", 200)
	try("admin", "POST", "/v1/confirm", "", "*", 200)
	try("admin", "POST", "/v1/rollback", `{"generation": 1}`, "*", 200)
	try("viewer", "GET", "/v1/status", "", "", 200)
	try("admin", "POST", "/v1/release", `{}`, "*", 200)
	try("viewer", "GET", "/v1/artifacts", "", "", 200)
	try("viewer", "GET", "/v1/overlays", "", "", 200)
	try("viewer", "GET", "/v1/overlays/diff?machine=ws01", "", "", 200)
	try("admin", "GET", "/v1/overlays/diff?machine=ws01&export=arch&files=true", "", "", 200)
	try("viewer", "GET", "/v1/overlays/diff?machine=ws01&files=true", "", "", 403)
	try("viewer", "GET", "/v1/overlays/diff?machine=ws01&files=all", "", "", 400)
	try("viewer", "GET", "/v1/overlays/diff?machine=ws02", "", "", 404)
	try("viewer", "POST", "/v1/overlays/reset", `{"machine": "ws01"}`, "*", 403)
	try("admin", "POST", "/v1/overlays/reset", `{"machine": "ws01"}`, "", 428)
	try("admin", "POST", "/v1/overlays/reset", `{}`, "*", 400)
	try("admin", "POST", "/v1/overlays/reset", `{"machine": "ws01"}`, "*", 409)
	try("admin", "POST", "/v1/overlays/reset", `{"machine": "ws01", "unreadable": "m/static/arch"}`, "*", 400)
	try("admin", "POST", "/v1/overlays/reset", `{"unreadable": "m/static/other"}`, "*", 404)
	try("admin", "POST", "/v1/overlays/reset", `{"unreadable": "m/static/arch"}`, "*", 200)
	try("viewer", "GET", "/v1/overlays?unreadable=m/static/arch", "", "", 200)
	try("viewer", "GET", "/v1/overlays/diff?unreadable=m/static/arch", "", "", 200)
	try("admin", "POST", "/v1/overlays/reset", `{"machine": "ws01", "export": "arch", "force": true}`, "*", 200)
	try("admin", "POST", "/v1/overlays/promote", `{"machine": "ws01"}`, "*", 409)
	try("admin", "POST", "/v1/overlays/promote", `{"machine": "ws02"}`, "*", 404)
	try("admin", "POST", "/v1/overlays/promote", `{"machine": "ws01", "live": true}`, "*", 200)
	try("admin", "POST", "/v1/poll", "", "", 202)
	try("viewer", "GET", "/v1/observed", "", "", 200)
	try("viewer", "GET", "/v1/history", "", "", 200)
	try("viewer", "GET", "/v1/events?follow=false", "", "", 200)
	try("viewer", "GET", "/v1/events?follow=perhaps", "", "", 400)
	d.provider.mu.Lock()
	d.provider.observe = errBroken
	d.provider.mu.Unlock()
	try("viewer", "GET", "/v1/observed", "", "", 500)
	for _, rt := range Routes() {
		if what := rt.Method + " " + rt.Path; !answered[what] {
			t.Errorf("%s is not asked here", what)
		}
	}
}

// conforms holds JSON against its schema, and against members that the schema does not
// have.
func conforms(t *testing.T, what string, schema *openapi3.SchemaRef, b []byte) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Errorf("%s: %v: %s", what, err, b)
		return
	}
	if err := schema.Value.VisitJSON(v, openapi3.MultiErrors()); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	for _, extra := range undescribed(schema.Value, v, "") {
		t.Errorf("%s: %s is not described", what, extra)
	}
}

// undescribed lists members that no schema has. Where there is a choice, they must be
// in one of the choices.
func undescribed(s *openapi3.Schema, v any, at string) []string {
	switch v := v.(type) {
	case []any:
		var list []string
		if s.Items != nil {
			for _, one := range v {
				list = append(list, undescribed(s.Items.Value, one, at+"[]")...)
			}
		}
		return list
	case map[string]any:
		if len(s.AllOf) == 1 {
			return undescribed(s.AllOf[0].Value, v, at)
		}
		if len(s.AnyOf) > 0 {
			var least []string
			for i, one := range s.AnyOf {
				if list := undescribed(one.Value, v, at); i == 0 || len(list) < len(least) {
					least = list
				}
			}
			return least
		}
		if len(s.Properties) == 0 {
			return nil // any
		}
		var list []string
		for name, one := range v {
			if p := s.Properties[name]; p != nil {
				list = append(list, undescribed(p.Value, one, at+"."+name)...)
			} else {
				list = append(list, at+"."+name)
			}
		}
		slices.Sort(list)
		return list
	}
	return nil
}
