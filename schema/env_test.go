package schema

import (
	"testing"
	"time"
)

// FuzzEnv looks for bytes in an env file that crash Load, keep it busy, or make it
// forget why it failed.
func FuzzEnv(f *testing.F) {
	for _, src := range []string{
		"a = 1\nb = [\"x\"]\n", "a = {\n  x = cidrhost(\"10.0.0.0/8\", 1)\n}\n", "a = local.x\nc = 2\nblock {}\n", "b = toset([1])", "a = <<E\n${1}\nE\n", `{"a": ["${1 + 1}"], "//": 1}`,
	} {
		f.Add([]byte(src), src[0] == '{')
	}
	f.Fuzz(func(t *testing.T, src []byte, json bool) {
		if len(src) > 64<<10 {
			return
		}
		name := "env/x.hcl"
		if json {
			name += ".json"
		}
		tree := files("site.hcl", "variable \"a\" {\n  type = any\n  default = null\n}\nvariable \"b\" {\n  type = set(string)\n  default = []\n  sensitive = true\n}\n", name, string(src))
		start := time.Now()
		d, diags := Load(tree, Options{Env: "x"})
		if took := time.Since(start); took > 30*time.Second {
			t.Fatalf("took %s", took)
		}
		if (d == nil) != diags.HasErrors() {
			t.Fatalf("desired state %t with %v", d != nil, diags)
		}
		for _, x := range diags {
			if x.Summary == "Internal error" {
				t.Fatal(x)
			}
		}
	})
}
