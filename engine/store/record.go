package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// What made a generation.
const (
	TriggerCommit   = "commit"
	TriggerApply    = "apply"
	TriggerRollback = "rollback"
	TriggerRevert   = "revert" // a trial that nobody confirmed
	TriggerDrift    = "drift"  // what was served had been lost, and was made anew
)

// Record is one generation: all that is needed to serve it again without the
// repository and without a build. A Record that came out of the store is not to be
// changed.
type Record struct {
	Number       uint64    `json:"number"`
	Revision     string    `json:"revision"` // hash of the commit
	Subject      string    `json:"subject,omitempty"`
	Author       string    `json:"author,omitempty"`
	Parent       uint64    `json:"parent,omitempty"` // the generation before; 0: none
	Created      time.Time `json:"created"`
	Trigger      string    `json:"trigger"`                  // TriggerCommit, …
	RolledBackTo uint64    `json:"rolled_back_to,omitempty"` // the generation that this one repeats

	// Files holds the content of the files that schema.Load reads, Digests those of
	// which it takes only the digest, Variables the values of the variables as in
	// schema.Desired. See Load.
	Files     Files             `json:"files,omitempty"`
	Digests   []schema.File     `json:"digests,omitempty"`
	Variables map[string]string `json:"variables,omitempty"`
	// Env is schema.Options.Env: the values of sensitive variables that come from
	// there are only in that file.
	Env string `json:"env,omitempty"`
	// Given names variables that were given a value which must not be stored.
	Given []string `json:"given,omitempty"`
	// GivenDigests tells, by name, whether a value of one of those is another one now:
	// HostKey.Digest of it, with the key whose public half GivenKey is. Empty in records
	// of programs that did not write them.
	GivenDigests map[string]string `json:"given_digests,omitempty"`
	GivenKey     string            `json:"given_key,omitempty"`

	Artifacts map[string]provider.Artifact `json:"artifacts,omitempty"` // by recipe
	// Images is the artifact that each image is served as. It, and not a recipe
	// computed again, says what to serve: a later program may compute another
	// recipe from the same files. Empty in records of programs that did not write
	// it. What it names is kept for as long as the record.
	Images map[schema.Addr]provider.Artifact `json:"images,omitempty"` // by image
	// Blobs is provider.Output.Blobs by address.
	Blobs   map[schema.Addr]map[string]provider.Blob `json:"blobs,omitempty"`
	Bases   []string                                 `json:"bases,omitempty"` // base recipes worth keeping
	Trees   []TreeRef                                `json:"trees,omitempty"`
	Exports map[schema.Addr]string                   `json:"exports,omitempty"` // wire name by address

	Plan *plan.Plan `json:"plan,omitempty"` // what was applied

	// By is who had it applied; zero in records of programs that did not write it.
	By Actor `json:"by,omitzero"`
	// Overrides names the rules of the policy that were passed by order.
	Overrides []string `json:"overrides,omitempty"`
	SavedPlan bool     `json:"saved_plan,omitempty"` // it was applied from one

	// Held is in force from the moment this generation is current: the revision is
	// skipped until a newer one. nil lifts any hold. Recording it here makes the
	// switch and the hold one step.
	Held *Held `json:"held,omitempty"`
}

// TreeRef is the boot tree of one machine; the zero Host is every machine without
// a host block.
type TreeRef struct {
	Host   schema.Addr `json:"host,omitzero"`
	Subnet schema.Addr `json:"subnet,omitzero"`
	ID     string      `json:"id"`
}

// Header is a Record without its bulk.
type Header struct {
	Number       uint64       `json:"number"`
	Revision     string       `json:"revision"`
	Subject      string       `json:"subject,omitempty"`
	Author       string       `json:"author,omitempty"`
	Parent       uint64       `json:"parent,omitempty"`
	Created      time.Time    `json:"created"`
	Trigger      string       `json:"trigger"`
	RolledBackTo uint64       `json:"rolled_back_to,omitempty"`
	Summary      plan.Summary `json:"summary"`
	// Damaged says why the record cannot be used; then only Number is set.
	Damaged string `json:"damaged,omitempty"`
}

// Header gives the head of a record.
func (r *Record) Header() Header {
	h := Header{
		Number: r.Number, Revision: r.Revision, Subject: r.Subject, Author: r.Author, Parent: r.Parent,
		Created: r.Created, Trigger: r.Trigger, RolledBackTo: r.RolledBackTo,
	}
	if r.Plan != nil {
		h.Summary = r.Plan.Summary
	}
	return h
}

// TakeFiles fills Files, Digests, Variables, Env and Given from what Load read: d, out
// of tree. opts is what Load was given.
func (r *Record) TakeFiles(tree fs.FS, d *schema.Desired, opts schema.Options) error {
	files, digests := Files{}, []schema.File{}
	for _, f := range d.Files {
		if !f.Config {
			digests = append(digests, f)
			continue
		}
		b, err := fs.ReadFile(tree, f.Path)
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
		if "sha256:"+digest(b) != f.Digest {
			return fmt.Errorf("record: %s has changed since it was loaded", f.Path)
		}
		files[f.Path] = b
	}
	var given []string
	for _, name := range slices.Sorted(maps.Keys(opts.Vars)) {
		if _, ok := d.Variables[name]; !ok {
			given = append(given, name)
		}
	}
	r.Files, r.Digests, r.Variables, r.Given, r.Env = files, digests, maps.Clone(d.Variables), given, opts.Env
	return nil
}

// Files is the content of files by slash-separated path. Its JSON form keeps text
// readable.
type Files map[string][]byte

// fileEntry is one file in a record: exactly one field is set.
type fileEntry struct {
	Text   *string        `json:"text,omitempty"`   // valid UTF-8
	Base64 *[]byte        `json:"base64,omitempty"` // anything else
	Blob   *provider.Blob `json:"blob,omitempty"`   // in the content store
}

func entryOf(b []byte) fileEntry {
	if utf8.Valid(b) {
		s := string(b)
		return fileEntry{Text: &s}
	}
	return fileEntry{Base64: &b}
}

// bytes gives the content of an entry that is not a blob.
func (e fileEntry) bytes(path string) ([]byte, error) {
	switch {
	case !fs.ValidPath(path) || path == ".":
		return nil, fmt.Errorf("%q is not a path", path)
	case e.Text != nil:
		return []byte(*e.Text), nil
	case e.Base64 != nil:
		return *e.Base64, nil
	}
	return nil, fmt.Errorf("%q has no content", path)
}

// MarshalJSON writes text as text, and anything else as base64.
func (f Files) MarshalJSON() ([]byte, error) {
	m := make(map[string]fileEntry, len(f))
	for p, b := range f {
		m[p] = entryOf(b)
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Files) UnmarshalJSON(b []byte) error {
	var m map[string]fileEntry
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*f = make(Files, len(m))
	for p, e := range m {
		var err error
		if (*f)[p], err = e.bytes(p); err != nil {
			return err
		}
	}
	return nil
}

// onDisk is a record as its file has it: large files are in the content store.
type onDisk struct {
	inline
	Files map[string]fileEntry `json:"files,omitempty"` // hides that of inline
}

// inline is Record without methods.
type inline Record

var errNoTrigger = errors.New("the record does not say what made the generation")
