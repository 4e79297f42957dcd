package schema

import (
	"fmt"
	"maps"
	"slices"
)

// Where values end up that anybody can read.
const (
	onKernelLine = "It becomes a part of the kernel line, which is in boot files that the whole network can fetch, and which explain shows."
	inMenu       = "Titles are in boot files that the whole network can fetch, and explain shows them."
	inAnswers    = "Host names are in DHCP answers, which the whole network can read, and explain shows them."
	inFstab      = "It becomes a part of fstab, which every user of the machine can read."
)

// public refuses sensitive values in what plans, mistakes and packets show: of the
// named attributes of the instance, or of all.
func (it *item) public(names ...string) {
	for _, name := range slices.Sorted(maps.Keys(it.made.secrets)) {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		at, written := it.made.block.ranges[name]
		if !written {
			at = it.at
		}
		it.fail(at, "A sensitive value in "+name, "Addresses, names and policies are shown in plans, in status and on the network. Take the value from something that is not sensitive.")
	}
}

// exposed reads an attribute that others than the machine get to see, and refuses a
// sensitive value: it would be hidden in plans, and read where it is put. where says
// where that is.
func exposed[T any](it *item, name, where string, read func() T) T {
	var v T
	fine := it.fine(func() { v = read() })
	if fine && it.secret(name) {
		it.fail(it.expression(name).Range(), fmt.Sprintf("A sensitive value in %s%s", it.prefix, name),
			where+" A file block is the place for what is sensitive: plans and explain never show what is in it.")
	}
	return v
}

// exposedText is text that others than the machine get to see.
func (it *item) exposedText(name, where, otherwise string, check func(string) error) string {
	return exposed(it, name, where, func() string { return it.text(name, otherwise, check) })
}

// exposedTexts are texts that others than the machine get to see.
func (it *item) exposedTexts(name, where string, check func(string) error) []string {
	return exposed(it, name, where, func() []string { return it.texts(name, nil, check) })
}

// secret reports whether an attribute that was read is recorded as sensitive.
func (it *item) secret(name string) bool {
	return it.made.secrets[it.prefix+name]
}

// repoPath reads the path of a file or a folder of the repo, and gives that in the
// tree, wherever the module is that names it; "" when it is not written, or wrong.
func (it *item) repoPath(name string) string {
	s := ""
	if it.fine(func() { s = it.text(name, "", checkRepoPath) }) && it.shownPaths(name) {
		return it.l.path(s)
	}
	return ""
}

// shownPaths refuses a sensitive path: it would be shown wherever files are.
func (it *item) shownPaths(name string) bool {
	secret := it.secret(name)
	if secret {
		it.fail(it.expression(name).Range(), fmt.Sprintf("A sensitive path in %s%s", it.prefix, name), "Which files are used is shown, so it cannot come from a sensitive value.")
	}
	return !secret
}
