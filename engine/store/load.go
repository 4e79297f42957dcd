package store

import (
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Load gives the desired state of a record again, from the record alone. Values
// that must not be stored are not in it: of own, what the daemon loads commits with,
// the values of such variables, Cache and Open are taken, and the rest is ignored.
func Load(rec *Record, own schema.Options) (*schema.Desired, hcl.Diagnostics) {
	opts := schema.Options{
		Recorded: rec.Variables, Env: rec.Env, Vars: map[string]string{}, Digests: map[string]schema.File{},
		Cache: own.Cache, Open: own.Open,
	}
	for name, value := range own.Vars {
		if slices.Contains(rec.Given, name) {
			opts.Vars[name] = value
		}
	}
	for _, f := range rec.Digests {
		opts.Digests[f.Path] = f
	}
	return schema.Load(rec.Files.FS(), opts)
}
