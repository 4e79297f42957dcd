package provider

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// Every constant of type EventKind is in the list, once.
func TestEventKindsAreAll(t *testing.T) {
	listed := map[string]int{}
	for _, k := range EventKinds() {
		listed[string(k)]++
	}
	declared := 0
	for _, name := range []string{"event.go", "note.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if id, ok := v.Type.(*ast.Ident); !ok || id.Name != "EventKind" {
				return true
			}
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			if declared++; listed[text] != 1 {
				t.Errorf("%s is listed %d times", text, listed[text])
			}
			return true
		})
	}
	if declared != len(listed) {
		t.Errorf("%d are declared, %d listed", declared, len(listed))
	}
}

func TestCheckEventPattern(t *testing.T) {
	for _, ok := range []string{"applied", "commit.*", "*", "dhcp.?ck"} {
		if err := CheckEventPattern(ok); err != nil {
			t.Error(err)
		}
	}
	for pattern, want := range map[string]string{
		"aplied": `no event is of the kind "aplied", did you mean "applied"? Kinds are dhcp.discover, `, "comit.*": `no event is of the kind "comit.*"`, "[": "syntax error", "": "no event",
	} {
		if err := CheckEventPattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
