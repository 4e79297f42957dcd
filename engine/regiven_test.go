package engine

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func hostKeyOf(t *testing.T) *store.HostKey {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "state"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	key, err := s.HostKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Both sides of a plan were evaluated with the new value of a sensitive variable, which
// no record has: nothing differed, and an image was taken to be made with a value that it
// was not made with.
func TestBaseOfAnotherSensitiveValue(t *testing.T) {
	tree := fstest.MapFS{"site.hcl": {Data: []byte(`
variable "password" {
  sensitive = true
}
variable "names" {
  type      = list(string)
  sensitive = true
}
server "main" {
  address = "10.0.0.1"
}
image "arch" {
  debootstrap {
    suite = "bookworm"
  }
  file "/etc/password" {
    content = var.password
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}
image "plain" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}
`)}}
	load := func(vars map[string]string) *schema.Desired {
		d, diags := schema.Load(tree, schema.Options{Vars: vars})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return d
	}
	values := func(password, names string) map[string]string {
		return map[string]string{"password": password, "names": names}
	}
	key, then := hostKeyOf(t), values("one", `["a"]`)
	applied := load(then)
	rec := &store.Record{Number: 1, Artifacts: map[string]provider.Artifact{}, Images: map[schema.Addr]provider.Artifact{}}
	if err := rec.TakeFiles(tree, applied, schema.Options{Vars: then}); err != nil {
		t.Fatal(err)
	}
	rec.TakeGiven(key, then)
	recipes := map[schema.Addr]string{}
	for i, im := range applied.Images {
		art := provider.Artifact{Root: provider.Blob{Digest: "sha256:" + strings.Repeat(string("78"[i]), 64)}}
		rec.Artifacts[im.Recipe], rec.Images[im.Addr], recipes[im.Addr] = art, art, im.Recipe
	}
	arch := applied.Images[0].Addr

	for _, tc := range []struct {
		name    string
		vars    map[string]string
		key     *store.HostKey
		changes []string
		named   []plan.VariableChange
	}{
		{"the same", then, key, nil, nil},
		{"another", values("two", `["a"]`), key, []string{"image.arch"}, []plan.VariableChange{{Name: "password", Followed: true}}},
		{"another, of which there is no stand-in", values("one", `["b"]`), key, nil, []plan.VariableChange{{Name: "names"}}},
		{"the key of another host, which cannot tell", values("two", `["a"]`), hostKeyOf(t), nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			own, diags := store.Load(rec, schema.Options{Vars: tc.vars})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			built := map[string]string{}
			for recipe, art := range rec.Artifacts {
				built[recipe] = art.Root.Digest
			}
			if tc.changes == nil { // what is served is what its record says
				for _, im := range own.Images {
					built[im.Recipe] = rec.Images[im.Addr].Root.Digest
				}
			}
			p := plan.Compute(plan.Input{Want: load(tc.vars), Applied: Base(rec, own, "", tc.key, schema.Options{Vars: tc.vars}), Built: built})
			var changes []string
			for _, ch := range p.Changes {
				changes = append(changes, ch.Address.String())
				if got := string(ch.Before["recipe"]); got != `"`+recipes[arch]+`"` || !slices.Contains(ch.AfterUnknown, "artifact") {
					t.Errorf("recipe before %s, want the one that was built, %s; unknown %v", got, recipes[arch], ch.AfterUnknown)
				}
			}
			if d := cmp.Diff(tc.changes, changes); d != "" {
				t.Errorf("changes (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.named, p.Variables); d != "" {
				t.Errorf("variables (-want +got):\n%s", d)
			}
			if p.Pending() != (len(tc.named) > 0) {
				t.Errorf("pending: %v", p.Pending())
			}
		})
	}
}
