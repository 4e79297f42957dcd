package store

import (
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Load gives the desired state of a record again, from the record alone. Values
// that must not be stored are not in it: give the daemon's own values of variables
// as vars for those, the others there are ignored. cache is schema.Options.Cache.
func Load(rec *Record, cache *schema.Cache, vars ...map[string]string) (*schema.Desired, hcl.Diagnostics) {
	opts := schema.Options{Cache: cache, Recorded: rec.Variables, Env: rec.Env, Vars: map[string]string{}, Digests: map[string]schema.File{}}
	for _, m := range vars {
		for name, value := range m {
			if slices.Contains(rec.Given, name) {
				opts.Vars[name] = value
			}
		}
	}
	for _, f := range rec.Digests {
		opts.Digests[f.Path] = f
	}
	return schema.Load(rec.Files.FS(), opts)
}
