package notify

import (
	"encoding/json"
	"os"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// told is the file that keeps what a forge was told.
type told struct {
	FormatVersion int        `json:"format_version"` // 1
	Target        string     `json:"target"`         // of whom it speaks; for another it says nothing
	Commits       []toldLine `json:"commits"`        // the oldest first
}

type toldLine struct {
	Revision    string `json:"revision"`
	State       State  `json:"state"`
	Description string `json:"description"`
}

// mostTold bounds the file, in bytes: mostCommits descriptions in the longest spelling
// that JSON has.
const mostTold = 256 << 10

// target names whom the statuses are for: another forge, project or context knows
// nothing of what this one was told.
func (c *CommitStatus) target() string {
	return string(c.cfg.Forge) + " " + c.base + " " + c.cfg.Project + " " + c.cfg.Context
}

// remembered gives what file says that target was told: nothing when there is no such
// file, or when it is damaged, which costs a repetition.
func remembered(file, target string) []status {
	if file == "" {
		return nil
	}
	b, err := statefile.Read(file, mostTold)
	if err != nil {
		return nil
	}
	var t told
	if json.Unmarshal(b, &t) != nil || t.FormatVersion != 1 || t.Target != target {
		return nil
	}
	var list []status
	for _, l := range t.Commits[max(0, len(t.Commits)-mostCommits):] {
		list = append(list, status{l.Revision, l.State, l.Description})
	}
	return list
}

// keep writes what target was told, in one step. It is not flushed: a file that a power
// cut leaves empty is one that says nothing. With no file it does nothing.
func keep(file, target string, list []status) error {
	if file == "" {
		return nil
	}
	t := told{FormatVersion: 1, Target: target, Commits: []toldLine{}}
	for _, s := range list {
		t.Commits = append(t.Commits, toldLine{s.revision, s.state, s.description})
	}
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	next := file + ".next"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.WriteFile(next, append(b, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, file); err == nil {
		return nil
	}
	// What stands there is no file.
	if _, err := statefile.SetAside(file, time.Now(), os.Rename); err != nil {
		return err
	}
	return os.Rename(next, file)
}
