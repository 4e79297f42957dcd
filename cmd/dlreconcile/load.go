package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/identity"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// loaded is a desired state as a command works on it.
type loaded struct {
	revision *string // nil: a work tree with uncommitted changes
	edits    source.Edits
	tree     fs.FS
	whole    *schema.Desired
	own      *schema.Desired // this server's part; nil when all is asked for
	all      bool            // of every server: nobody has to say which is this one
	// gone, when not nil, says whether a folder that is not there counts as one from
	// which everything was removed, as it does for a daemon that serves something.
	gone     func() bool
	warnings hcl.Diagnostics // told already, unless c.json
	closers  []io.Closer
}

// Close gives back what the tree is read from.
func (l *loaded) Close() error {
	var err error
	for _, c := range l.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

// load reads the desired state: of rev when it is given, else of a local repo's
// work tree, else of the tip. Mistakes are printed, with the lines they are on,
// and come back as an error that only carries the exit code. The caller closes
// what it gets.
func (c *cli) load(ctx context.Context, rev string) (*loaded, error) {
	return c.loadInto(ctx, &loaded{}, rev)
}

func (c *cli) loadInto(ctx context.Context, l *loaded, rev string) (*loaded, error) {
	c.settings.enclose()
	if err := c.loadDesired(ctx, l, rev); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (c *cli) loadDesired(ctx context.Context, l *loaded, rev string) error {
	err := error(source.ErrNoWorkTree)
	if rev == "" && !c.settings.remote() {
		err = c.loadWorkTree(ctx, l)
	}
	if errors.Is(err, source.ErrNoWorkTree) {
		err = c.loadRevision(ctx, l, rev)
	}
	if errors.Is(err, source.ErrNoPath) && l.gone != nil && l.gone() {
		l.tree, err = store.Files{}.FS(), nil
	}
	if err != nil {
		return c.ofRepo(err)
	}
	d, diags := schema.Load(l.tree, c.options())
	if !diags.HasErrors() {
		diags = append(diags, engine.UnknownZones(&d.Policy)...)
	}
	if diags.HasErrors() {
		return c.mistakes(l.tree, diags)
	}
	l.whole = d
	if !l.all {
		l.own, err = engine.Own(d, c.settings.Server)
	}
	if err != nil {
		var diags hcl.Diagnostics
		if errors.As(err, &diags) {
			return c.mistakes(l.tree, diags)
		}
		return err
	}
	if l.warnings = diags; len(diags) > 0 && !c.json {
		return schema.FormatDiagnostics(c.err, l.tree, diags, c.color(c.err))
	}
	return nil
}

// options is what the configuration depends on besides its files. Where no identity is
// named, secrets stay encrypted: what a commit changes can be seen all the same.
func (c *cli) options() schema.Options {
	o := schema.Options{Vars: c.settings.Vars, Env: c.settings.Env, Cache: c.cache}
	if c.settings.AgeIdentity != "" {
		o.Open = identity.File{Path: c.settings.AgeIdentity}.Open
	}
	return o
}

// mistakes prints diagnostics that end the command.
func (c *cli) mistakes(tree fs.FS, diags hcl.Diagnostics) error {
	if err := c.diagnostics(tree, diags); err != nil {
		return err
	}
	return &silent{exitInvalid}
}

// loadWorkTree takes the files as they lie there; when they are what is committed,
// they count as that commit.
func (c *cli) loadWorkTree(ctx context.Context, l *loaded) error {
	tree, err := source.WorkTree(c.settings.Repo, c.settings.Path)
	if err != nil {
		return err
	}
	l.tree, l.closers = tree, append(l.closers, tree)
	edits, head, err := source.Edited(ctx, c.settings.Repo, c.settings.Path)
	if err != nil {
		return err
	}
	if l.edits = edits; len(edits.Files) == 0 {
		l.revision = &head.Hash
	}
	return nil
}

// loadRevision takes the files of a commit; of the tip when rev is "". What is
// fetched for it is thrown away: the mirror in the state directory is the daemon's.
func (c *cli) loadRevision(ctx context.Context, l *loaded, rev string) error {
	mirror := ""
	if c.settings.remote() {
		dir, err := os.MkdirTemp("", "dlreconcile-mirror-")
		if err != nil {
			return err
		}
		l.closers = append(l.closers, closeFunc(func() error { return os.RemoveAll(dir) }))
		mirror = dir
	}
	src, err := c.openSource(mirror)
	if err != nil {
		return err
	}
	var r source.Revision
	if rev == "" {
		r, err = src.Tip(ctx)
	} else {
		r, err = src.Resolve(ctx, rev)
	}
	if err != nil {
		return err
	}
	l.revision = &r.Hash
	l.tree, err = src.Tree(ctx, r)
	return err
}

// ofRepo adds to an error of the repo how it came to be that one.
func (c *cli) ofRepo(err error) error {
	if err != nil && !c.settings.repoGiven {
		return fmt.Errorf("%w\nNo repo is named, so the current folder was taken: name one with --repo, DLRECONCILE_REPO or in daemon.hcl", err)
	}
	return err
}

// diagnostics prints mistakes: on stderr for people, and with --json on stdout too.
func (c *cli) diagnostics(tree fs.FS, diags hcl.Diagnostics) error {
	if c.json {
		if err := c.printJSON(findings(diags)); err != nil {
			return err
		}
	}
	return schema.FormatDiagnostics(c.err, tree, diags, c.color(c.err))
}

// verdict is what is said of a configuration with --json.
type verdict struct {
	Valid       bool                `json:"valid"`
	Resources   *int                `json:"resources,omitempty"` // of a valid one
	Diagnostics []schema.Diagnostic `json:"diagnostics"`
}

func findings(diags hcl.Diagnostics) verdict {
	return verdict{Valid: !diags.HasErrors(), Diagnostics: schema.ToDiagnostics(diags)}
}

// printJSON writes v to stdout.
func (c *cli) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}
