package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// noted is an outcome with what the operator should know beside it, as --json prints it.
type noted struct {
	engine.Outcome
	Notices []string `json:"notices,omitempty"`
}

// noteEdits tells that files of the local repo are not part of what is applied, because
// nobody committed them: on stderr, or with --json in the outcome. Nothing is said where
// there is no work tree, or one that cannot be compared: that does not keep a commit
// from being applied. When no repo is named, the current folder is one that a daemon may
// know nothing about: it counts if its commit is revision.
func (c *cli) noteEdits(ctx context.Context, revision string) {
	if c.settings.remote() {
		return
	}
	e, head, err := source.Edited(ctx, c.settings.Repo, c.settings.Path)
	if err != nil || len(e.Files) == 0 || !c.settings.repoGiven && head.Hash != revision {
		return
	}
	c.note(editsText(e) + " not part of this: only what is committed is applied. `dlreconcile plan` shows what the files of the work tree would do; commit them to apply that.")
}

// note tells something that changes nothing about what the command does.
func (c *cli) note(text string) {
	if c.json {
		c.notices = append(c.notices, text)
		return
	}
	fmt.Fprintf(c.err, "Note: %s\n", text)
}

// editsText says how many files are not committed, and names the first.
func editsText(e source.Edits) string {
	const most = 3
	n := len(e.Files)
	list := make([]string, 0, most)
	for _, f := range e.Files[:min(n, most)] {
		list = append(list, fmt.Sprintf("%q", f))
	}
	names := strings.Join(list, ", ")
	if n > most {
		names += ", …"
	}
	switch {
	case e.More:
		return fmt.Sprintf("More than %d uncommitted files (%s) are", n, names)
	case n == 1:
		return fmt.Sprintf("1 uncommitted file (%s) is", names)
	}
	return fmt.Sprintf("%d uncommitted files (%s) are", n, names)
}
