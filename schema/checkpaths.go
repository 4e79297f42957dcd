package schema

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// stateFolder is where the directories of state blocks lie in a machine's root.
const stateFolder = "/var/lib/dlreconcile"

// kernelFolders are where a machine mounts what no file system holds, right after
// its root.
var kernelFolders = []string{"/dev", "/proc", "/run", "/sys"}

// runLinks are the links into /run that every root has, and where they lead.
var runLinks = [][2]string{{"/var/run", "/run"}, {"/var/lock", "/run/lock"}}

// settledFiles are the files that a machine makes of other parts of the
// configuration.
var settledFiles = map[string]string{
	"/etc/fstab":      "It is made of the mount and state blocks. Write a mount block for each line.",
	"/etc/hostname":   "It is made of the host block: write hostname there.",
	"/etc/machine-id": "It is made of the machine's hardware address, so that each machine has its own, and keeps it.",
}

// checkPath checks the path of one block: where in the root of a machine something
// goes.
func checkPath(kind, p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return errors.New(`A path begins at the root of the machine: "/etc/motd".`)
	case path.Clean(p) != p:
		return fmt.Errorf("The path has parts that mean nothing. Did you mean %q?", path.Clean(p))
	case len(p) > 1000 || !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl):
		return errors.New("The path has control characters, or more than 1000 bytes.")
	}
	for _, link := range runLinks {
		switch from, to := link[0], link[1]; {
		case p != from && !below(p, from):
		case kind == "mount":
			return fmt.Errorf("%s is a link to %s, where this is called %q: write that.", from, to, to+p[len(from):])
		default:
			return fmt.Errorf("%s is a link to %s, where a machine mounts what no file system holds, over whatever lies there. Choose another place.", from, to)
		}
	}
	if kind == "mount" {
		return checkField(p)
	}
	for _, k := range kernelFolders {
		if p == k || below(p, k) {
			return fmt.Errorf("At %s a machine mounts what no file system holds, over whatever lies there. Choose another place.", k)
		}
	}
	if kind == "file" {
		if p == "/" {
			return errors.New("That is a folder.")
		}
		if why, ok := settledFiles[p]; ok {
			return errors.New("A machine writes this file by itself. " + why)
		}
		return nil
	}
	switch {
	case p == stateFolder || below(p, stateFolder) || below(stateFolder, p):
		return fmt.Errorf("State is kept in %s of the root, so it cannot be there, nor around it. Choose a deeper folder.", stateFolder)
	case p == "/etc":
		return errors.New("A machine reads /etc/fstab before it mounts anything. Choose a deeper folder.")
	}
	return checkField(p)
}

// below reports whether p lies in the folder.
func below(p, folder string) bool {
	return folder == "/" && p != "/" || strings.HasPrefix(p, folder) && len(p) > len(folder) && p[len(folder)] == '/'
}

// placed is something that goes to a path of a machine's root: a mount, file or
// state block.
type placed struct {
	kind, path string
	at         hcl.Range
}

func (p placed) String() string { return p.kind + " " + strconv.Quote(p.path) }

// clash is two of them that cannot both be.
type clash struct {
	one, other placed
	summary    string // about one
	why        string
}

// byPath are those of one kind.
type byPath map[string]placed

// at gives the one that is there.
func (all byPath) at(p string) (placed, bool) {
	found, ok := all[p]
	return found, ok
}

// around gives the deepest one around a path. The root is around everything, and
// does not count.
func (all byPath) around(p string) (placed, bool) {
	for len(all) > 0 && p != "/" {
		p = path.Dir(p)
		if found, ok := all[p]; ok && p != "/" {
			return found, true
		}
	}
	return placed{}, false
}

// clashes finds those that cannot both be in one root. Two of a kind at one path are
// not among them.
func clashes(all []placed) []clash {
	kinds := map[string]byPath{"mount": {}, "file": {}, "state": {}}
	for _, p := range all {
		kinds[p.kind][p.path] = p
	}
	mounts, files, states := kinds["mount"], kinds["file"], kinds["state"]
	var out []clash
	found := func(one placed, how, why string) func(placed, bool) bool {
		return func(other placed, is bool) bool {
			if is {
				summary := fmt.Sprintf("%s%s is %s a %s", strings.ToUpper(one.kind[:1]), one.String()[1:], how, other.kind)
				out = append(out, clash{one, other, summary, why})
			}
			return is
		}
	}
	const hidden = "It is mounted over what lies there, so no program would see the file."
	for _, p := range all {
		switch p.kind {
		case "file":
			_ = found(p, "at", "What is mounted there is a folder.")(mounts.at(p.path)) ||
				found(p, "at", "State is a folder.")(states.at(p.path)) ||
				found(p, "below", "That is a file and not a folder.")(files.around(p.path)) ||
				found(p, "below", hidden)(mounts.around(p.path)) ||
				found(p, "below", hidden)(states.around(p.path))
		case "mount":
			_ = found(p, "below", "That is a file and not a folder.")(files.around(p.path))
		case "state":
			_ = found(p, "at", "Both would be mounted, one over the other. Take one away.")(mounts.at(p.path)) ||
				found(p, "below", "That is a file and not a folder.")(files.around(p.path)) ||
				found(p, "below", "Everything in that is the machine's own already. Take one away.")(states.around(p.path))
		}
	}
	if len(states) > 0 {
		hiding, is := mounts.at(stateFolder)
		if !is {
			hiding, is = mounts.around(stateFolder)
		}
		if is {
			first := all[slices.IndexFunc(all, func(p placed) bool { return p.kind == "state" })]
			out = append(out, clash{hiding, first, fmt.Sprintf("Mount %q hides the state of machines", hiding.path),
				fmt.Sprintf("State is kept in %s of the root, and this is mounted over it. Mount deeper folders, or take the state away.", stateFolder)})
		}
	}
	return out
}

// checkPaths checks the paths of mount, file and state blocks, by themselves and
// beside each other. They are labels, the same in every instance, so a mistake is
// reported once and not for each machine.
func (l *loader) checkPaths(b *body) {
	var all []placed
	for _, n := range b.blocks {
		if err := checkPath(n.kind, n.label); err != nil {
			l.report(mistake(n.labelAt, fmt.Sprintf("Invalid path %s", shown(n.label, false)), err.Error()))
			continue
		}
		all = append(all, placed{n.kind, n.label, n.labelAt})
	}
	for _, c := range clashes(all) {
		l.report(mistake(c.one.at, c.summary, fmt.Sprintf("There is %s (%s). %s", c.other, rangeOf(c.other.at), c.why)))
	}
}
