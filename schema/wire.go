package schema

import "strings"

// WireFamily is what clients call the export, whichever artifact it serves: the
// block's name, and for an instance of for_each a dot and its key. The wire name of
// one artifact is the family, "@" and the first 12 hex digits of the artifact's
// digest. The key is taken as it is: whoever serves the export refuses one that
// cannot stand there.
func (e *Export) WireFamily() string { return e.Addr.Wire() }

// Wire is the name of a resource as machines see it: the names of its modules, its own
// and all keys, with dots between. Two resources of a kind and type never share one.
func (a Addr) Wire() string {
	name := a.Name
	if a.Key != "" {
		name += "." + a.Key
	}
	if a.Module == "" {
		return name
	}
	steps, err := splitAddr(a.Module)
	if err != nil { // no Addr that Load or ParseAddr made
		return name
	}
	var parts []string
	for i := 1; i < len(steps); i += 2 {
		parts = append(parts, steps[i].name)
		if steps[i].key != "" {
			parts = append(parts, steps[i].key)
		}
	}
	return strings.Join(append(parts, name), ".")
}
