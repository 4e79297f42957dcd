package schema

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
)

var (
	moduleName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	hookName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]*$`)
	programName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*$`)
)

// generatorOf is the generator of the distribution that a source makes.
func generatorOf(s SourceKind) string {
	if s == SourcePacstrap {
		return Mkinitcpio
	}
	return InitramfsTools
}

// initramfs reads the block of that name, which may be left out.
func (it *item) initramfs(source SourceKind) Initramfs {
	sub := it.only("initramfs")
	if sub == nil {
		sub = &item{l: it.l, made: it.made, body: &body{}, ctx: it.ctx, prefix: "initramfs.", at: it.at}
	}
	i := Initramfs{Generator: generatorOf(source)}
	for _, n := range it.made.block.body.blocks {
		if n.kind == "initramfs" && n.label != "" {
			i.Generator = n.label
		}
	}
	sub.record("generator", i.Generator, false)
	if i.Generator == OwnInitramfs {
		it.ownInitramfs(sub)
		return i
	}
	i.Modules = sub.set("modules", nil, matching(moduleName, 60, "A kernel module is named by letters, digits, hyphens and underscores."))
	i.Compress = sub.text("compress", "zstd", oneOf([]string{"zstd", "gzip", "xz", "lz4"}))
	if i.Generator == InitramfsTools {
		for _, no := range [...]struct{ attr, why string }{
			{"hooks", "Its hooks are scripts in /etc/initramfs-tools/hooks of the image, and all that are there run: put one there with a file block."},
			{"binaries", "A script in /etc/initramfs-tools/hooks of the image copies programs, with copy_exec: put one there with a file block."},
		} {
			if _, _, written := sub.value(no.attr); written {
				sub.fail(sub.place(no.attr), fmt.Sprintf("initramfs-tools has no %s", no.attr), no.why+" Or say which other generator the image has: initramfs \"dracut\", initramfs \"mkinitcpio\".")
			}
		}
		return i
	}
	i.Hooks = sub.hooks(i.Generator)
	i.Binaries = sub.set("binaries", nil, checkProgram)
	return i
}

// hooks reads what the initial RAM disk is put together from, in order.
func (it *item) hooks(generator string) []string {
	what := "A hook of mkinitcpio"
	if generator == Dracut {
		what = "A module of dracut"
	}
	var out []string
	seen := map[string]bool{}
	if it.fine(func() {
		out = it.texts("hooks", nil, matching(hookName, 60, what+" is named by letters, digits, and _ . + -."))
	}) && it.has("hooks") {
		for i, h := range out {
			if seen[h] {
				it.fail(elementRange(it.expression("hooks"), i), fmt.Sprintf("%q is twice in hooks", h), "It would be put in twice, and started twice. Each stands once, in the order in which they run.")
			}
			seen[h] = true
		}
		if len(out) == 0 {
			it.fail(it.place("hooks"), "hooks is empty", "Nothing would find the root in the initial RAM disk. Leave hooks out to have those that "+generator+" puts in by itself.")
		}
	}
	return out
}

// checkProgram checks a program by its name in PATH, or by its place.
func checkProgram(s string) error {
	if len(s) <= 60 && programName.MatchString(s) || checkImagePath(s) == nil {
		return nil
	}
	return errors.New("A program is named by its path in the image, /usr/bin/mount.nfs4, or by its name alone.")
}

// ownInitramfs is initramfs "none": the source holds one, and nothing is added.
func (it *item) ownInitramfs(sub *item) {
	for _, attr := range []string{"modules", "hooks", "binaries", "compress"} {
		if _, _, written := sub.value(attr); written {
			sub.fail(sub.place(attr), "Nothing makes an initramfs", fmt.Sprintf("initramfs \"none\" takes the one in the source's /boot as it is, so %s has no effect. Remove it, or the label \"none\".", attr))
		}
	}
	for _, n := range it.made.block.body.blocks {
		if slices.Contains([]string{string(SourceDebootstrap), string(SourcePacstrap)}, n.kind) {
			it.fail(n.at, "Nothing makes an initramfs", "Only a source that is a whole root can bring its own: tar, oci, directory or disk. Remove the label \"none\".")
		}
	}
}
