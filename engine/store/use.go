package store

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Use says what a generation needs a blob for.
type Use struct {
	Generation uint64
	Address    schema.Addr // of the resource; zero: a file of the configuration
	Name       string      // of the part: "root", "kernel", "shimx64.efi", the file's name
	provider.Blob
}

// Uses lists what a generation needs, ordered by resource and name.
func (s *Store) Uses(number uint64) ([]Use, error) {
	var disk onDisk
	if _, err := readSealed(s.recordPath(number), maxFile, &disk); err != nil {
		return nil, err
	}
	var list []Use
	add := func(a schema.Addr, name string, b provider.Blob) {
		if b.Digest != "" {
			list = append(list, Use{number, a, name, b})
		}
	}
	artifact := func(addr schema.Addr, a provider.Artifact) {
		add(addr, "root", a.Root)
		add(addr, "kernel", a.Kernel)
		add(addr, "initrd", a.Initrd)
		for name, b := range a.Loaders {
			add(addr, name, b)
		}
	}
	named := map[string]bool{}
	for addr, a := range disk.Images {
		named[a.Recipe] = true
		artifact(addr, a)
	}
	for recipe, a := range disk.Artifacts {
		if !named[recipe] { // a record of a program that did not write Images
			artifact(schema.Addr{}, a)
		}
	}
	for addr, blobs := range disk.Blobs {
		for name, b := range blobs {
			add(addr, name, b)
		}
	}
	for name, f := range disk.Files {
		if f.Blob != nil {
			add(schema.Addr{}, name, *f.Blob)
		}
	}
	slices.SortFunc(list, func(a, b Use) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Digest, b.Digest))
	})
	return slices.Compact(list), nil
}

// AllUses lists what all kept generations need, newest generation first. A record that
// cannot be read is told by the error, and the others are listed.
func (s *Store) AllUses() ([]Use, error) {
	var all []Use
	var errs error
	for _, n := range slices.Backward(s.Numbers()) {
		list, err := s.Uses(n)
		if missing(err) {
			continue // collected meanwhile
		}
		errs = errors.Join(errs, err)
		all = append(all, list...)
	}
	return all, errs
}

// ByDigest gives the blobs of uses, each once, in order of digest.
func ByDigest(uses []Use) []provider.Blob {
	m := map[string]provider.Blob{}
	for _, u := range uses {
		m[u.Digest] = u.Blob
	}
	var list []provider.Blob
	for _, d := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[d])
	}
	return list
}
