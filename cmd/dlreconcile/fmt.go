package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/schema"
)

// stdinName is what messages and lists call standard input.
const stdinName = "<stdin>"

// maxStdin bounds what is read from standard input: more than any file may have.
const maxStdin = 4 << 20

// fmtFlags are the flags of the fmt command.
type fmtFlags struct {
	check, diff, recursive bool
}

func (c *cli) fmtCommand() *cobra.Command {
	var o fmtFlags
	cmd := &cobra.Command{
		Use:   "fmt [PATH...]",
		Short: "Write configuration files in their canonical form",
		Long: `fmt indents and aligns *.hcl files, and lists those that it changed. White space is
all that changes: what the files mean, and so what is planned, stays as it is. It
needs no daemon, and no commit.

A PATH is a file, a folder of configuration, or - for standard input, whose canonical
form is printed. Without one it is the folder that the other commands read: --path of
a local --repo. Of a folder, files are those in it, in its env folder, and in the
folders of the modules that it uses; other folders may hold files for images, which
are left alone. Files that end in .hcl.json are left alone too.

Exit codes: 0 done, 1 failed, 3 a file is wrong, or with --check not in its form.`,
		Example: `  dlreconcile fmt
  dlreconcile fmt --check --diff
  dlreconcile fmt site.hcl modules/rack
  dlreconcile fmt - < site.hcl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if slices.Contains(args, "-") {
				if len(args) > 1 {
					return &coded{exitUsage, errors.New("fmt reads standard input or files, not both: - stands alone")}
				}
				return c.fmtStdin(o)
			}
			if len(args) == 0 {
				// Only now: a broken daemon.hcl must not keep an editor from formatting.
				if err := c.settings.resolve(cmd.Flags(), os.Environ()); err != nil {
					return err
				}
				folder, err := c.configFolder()
				if err != nil {
					return err
				}
				args = []string{folder}
			}
			return c.fmtPaths(args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.check, "check", false, "change nothing: list the files that are not in their form, and exit 3 when there are some")
	f.BoolVar(&o.diff, "diff", false, "print what changes, too")
	f.BoolVar(&o.recursive, "recursive", true, "of a folder, also the files of its env folder and its modules")
	return cmd
}

// configFolder is where the configuration of a local repo lies.
func (c *cli) configFolder() (string, error) {
	c.settings.enclose()
	if c.settings.remote() {
		return "", &coded{exitUsage, errors.New("the repo is not on this machine: name the files or folders to format")}
	}
	return filepath.Join(strings.TrimPrefix(c.settings.Repo, "file://"), filepath.FromSlash(c.settings.Path)), nil
}

// formatted is what fmt says with --json.
type formatted struct {
	Checked     int                 `json:"checked"` // files that were looked at
	Changed     []changedFile       `json:"changed"` // those that were not in their form
	Written     bool                `json:"written"` // false: only looked at
	Diagnostics []schema.Diagnostic `json:"diagnostics"`
}

type changedFile struct {
	Path string  `json:"path"`
	Diff string  `json:"diff,omitempty"` // with --diff
	Text *string `json:"text,omitempty"` // of standard input: its canonical form
}

// fmtPaths formats files and folders. A wrong one does not keep the others from it.
func (c *cli) fmtPaths(paths []string, o fmtFlags) error {
	files, err := configFiles(paths, o.recursive)
	if err != nil {
		return err
	}
	report := formatted{Checked: len(files), Changed: []changedFile{}, Written: !o.check}
	var diags hcl.Diagnostics
	for _, name := range files {
		src, err := readConfig(name)
		if err != nil {
			return err
		}
		name = shownPath(name)
		got, wrong := schema.Format(src, filepath.ToSlash(name))
		diags = append(diags, wrong...)
		if wrong.HasErrors() || bytes.Equal(src, got) {
			continue
		}
		if !o.check {
			if err := rewrite(name, got); err != nil {
				return err
			}
		}
		report.Changed = append(report.Changed, c.tellChanged(name, src, got, o))
	}
	return c.fmtDone(report, diags, o)
}

// fmtStdin formats standard input.
func (c *cli) fmtStdin(o fmtFlags) error {
	src, err := io.ReadAll(io.LimitReader(c.in, maxStdin))
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	report := formatted{Checked: 1, Changed: []changedFile{}}
	got, diags := schema.Format(src, stdinName)
	if diags.HasErrors() {
		return c.fmtDone(report, diags, o)
	}
	if !o.check && !o.diff && !c.json {
		_, err := c.out.Write(got)
		return err
	}
	if !bytes.Equal(src, got) {
		changed := c.tellChanged(stdinName, src, got, o)
		text := string(got)
		changed.Text = &text
		report.Changed = append(report.Changed, changed)
	}
	return c.fmtDone(report, diags, o)
}

// tellChanged prints that a file is not, or was not, in its form.
func (c *cli) tellChanged(name string, was, is []byte, o fmtFlags) changedFile {
	f := changedFile{Path: filepath.ToSlash(name)}
	if o.diff {
		f.Diff = string(diff.Diff("a/"+f.Path, was, "b/"+f.Path, is))
	}
	switch {
	case c.json:
	case o.diff:
		fmt.Fprint(c.out, c.paintedDiff(f.Diff))
	default:
		fmt.Fprintln(c.out, clean(name))
	}
	return f
}

// paintedDiff is a diff as the output shows it. On a terminal, what it would act on
// is replaced; elsewhere the diff is whole, so that it can be applied.
func (c *cli) paintedDiff(text string) string {
	if !isTerminal(c.out) {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = clean(strings.TrimRight(line, "\r\n"))
		switch {
		case !c.color(c.out):
		case strings.HasPrefix(line, "+"):
			line = "\x1b[32m" + line + "\x1b[0m"
		case strings.HasPrefix(line, "-"):
			line = "\x1b[31m" + line + "\x1b[0m"
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// fmtDone tells what is wrong, and gives the error for the exit code.
func (c *cli) fmtDone(report formatted, diags hcl.Diagnostics, o fmtFlags) error {
	report.Diagnostics = schema.ToDiagnostics(diags)
	if c.json {
		if err := c.printJSON(report); err != nil {
			return err
		}
	}
	if err := schema.FormatDiagnostics(c.err, nil, diags, c.color(c.err)); err != nil {
		return err
	}
	if diags.HasErrors() || o.check && len(report.Changed) > 0 {
		return &silent{exitInvalid}
	}
	return nil
}
