package schema

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	unitName    = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(service|socket|target|timer|mount|automount|path|swap|slice|device|scope)$`)
	zoneName    = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	localeName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.@-]*$`)
	keymapName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	volumeLabel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
)

func (l *loader) image(it *item) {
	img := &Image{
		Hostname: it.text("hostname", "", checkHostname),
		Timezone: it.text("timezone", "", matching(zoneName, 100, "A time zone is named as in the tz database: Europe/Berlin, UTC.")),
		Locale:   it.text("locale", "", matching(localeName, 60, "A locale is a language, perhaps with a country and an encoding: en_US.UTF-8.")),
		Keymap:   it.text("keymap", "", matching(keymapName, 60, "A keymap is named by letters, digits, hyphens, dots and underscores: us, de-latin1.")),
		Mask:     it.set("mask", nil, matching(unitName, 255, "A systemd unit is named with its type: e2scrub_reap.service.")),
	}
	it.source(img)
	sealed := img.Source == SourceSealed
	if !sealed {
		img.Files = it.files()
		img.Copies = it.copies(img.Files)
		img.Initramfs = it.initramfs(img.Source)
	}
	// A sealed image has one already; sealedImage refuses one that is written.
	sub := it.only("filesystem")
	switch {
	case sealed:
	case sub != nil:
		img.Filesystem = sub.filesystem()
	case !it.made.block.broken:
		it.fail(it.at, "An image without a file system", `Say what its root becomes: filesystem "ext4" { size = "2GiB" } or filesystem "squashfs" {}.`)
	}
	if it.made.failed {
		return
	}
	img.BaseRecipe, img.Recipe = l.recipes(img)
	img.Meta = it.meta()
	l.out.Images = append(l.out.Images, img)
}

func (it *item) filesystem() Filesystem {
	f := Filesystem{}
	for _, n := range it.made.block.body.blocks {
		if n.kind == "filesystem" {
			f.Type = n.label
		}
	}
	it.record("type", f.Type, false)
	f.Size = read(it, "size", 0, parseFilesystemSize, showSize)
	longest := 16
	if f.Type == "btrfs" {
		longest = 255
	}
	f.Label = it.text("label", "", matching(volumeLabel, longest, fmt.Sprintf("A label has at most %d letters, digits, hyphens, dots and underscores.", longest)))
	unwanted := func(attr, why string) {
		if it.has(attr) {
			it.fail(it.place(attr), fmt.Sprintf("%s has no %s", f.Type, attr), why)
		}
	}
	if f.Type != "squashfs" && !it.has("size") {
		it.fail(it.at, f.Type+" without a size", `Say how large the file system is: size = "2GiB". It is sparse, so what is not used costs nothing.`)
	}
	switch f.Type {
	case "ext4":
		unwanted("compress", "Take the line away, or use btrfs or squashfs.")
	case "btrfs":
		if f.Size > 0 && f.Size < minBtrfs {
			it.fail(it.expression("size").Range(), fmt.Sprintf("Invalid %ssize %q", it.prefix, formatSize(f.Size)), fmt.Sprintf("A btrfs has %s at least: mkfs.btrfs makes none that is smaller.", formatSize(minBtrfs)))
		}
		f.Compress = it.text("compress", "", oneOf([]string{"zstd", "lzo", "zlib"}))
	case "squashfs":
		f.Compress = it.text("compress", "zstd", oneOf([]string{"zstd", "lz4", "xz", "gzip"}))
		unwanted("size", "It is as large as what is in it. Take the line away.")
		unwanted("label", "Take the line away.")
	}
	return f
}

// files reads the files that are put into an image.
func (it *item) files() []*ImageFile {
	var out []*ImageFile
	for i, sub := range it.nested("file") {
		n := it.fileBlock(i)
		if err := checkImagePath(n.label); err != nil {
			it.fail(n.labelAt, fmt.Sprintf("Invalid path %s", shown(n.label, false)), err.Error())
			continue
		}
		out = append(out, sub.imageFile(n))
	}
	slices.SortStableFunc(out, func(a, b *ImageFile) int { return strings.Compare(a.Path, b.Path) })
	byPath := map[string]*ImageFile{}
	for _, f := range out {
		byPath[f.Path] = f
	}
	for _, f := range out {
		for i, c := range f.Path {
			if parent := byPath[f.Path[:i]]; c == '/' && parent != nil {
				it.fail(it.made.block.ranges["file["+strconv.Quote(f.Path)+"]"], fmt.Sprintf("File %q is below a file", f.Path), fmt.Sprintf("%q, written at %s, is a file and not a folder.", parent.Path, parent.Range))
				break
			}
		}
	}
	return out
}

// fileBlock gives the i-th file block.
func (it *item) fileBlock(i int) *nested {
	for _, n := range it.body.blocks {
		if n.kind == "file" {
			if i == 0 {
				return n
			}
			i--
		}
	}
	return nil
}

func (it *item) imageFile(n *nested) *ImageFile {
	f := &ImageFile{Path: n.label, Meta: Meta{Range: rangeOf(n.at), Attrs: map[string]Range{}}}
	for name, a := range n.body.attrs {
		f.Attrs[name] = rangeOf(a.SrcRange)
	}
	var given []string
	for _, name := range []string{"content", "source", "symlink"} {
		if n.body.attrs[name] != nil {
			given = append(given, name)
		}
	}
	if len(given) != 1 {
		it.fail(n.at, fmt.Sprintf("File %q has %d of content, source and symlink", n.label, len(given)), "It must have exactly one: its text, a file of the repo, or what the link points to.")
		return f
	}
	f.Content = it.text("content", "", func(s string) error {
		if len(s) > maxFileContent {
			return fmt.Errorf("Text in the configuration has at most %s. Put it into a file of the repo and write source.", formatSize(maxFileContent))
		}
		return nil
	})
	f.Source = it.repoPath("source")
	f.Symlink = it.text("symlink", "", func(s string) error {
		if s == "" || len(s) > 1000 {
			return errors.New("A symbolic link points to a path of 1 to 1000 bytes.")
		}
		return checkLine(s)
	})
	it.needed(given[0])
	switch given[0] {
	case "symlink":
		if n.body.attrs["permissions"] != nil {
			it.fail(it.place("permissions"), "A symbolic link has no permissions", "Take the line away.")
		}
	case "source":
		if f.Source != "" {
			src, _ := it.repoFile("source", f.Source)
			f.Digest = src.Digest
		}
	case "content":
		sum := sha256.Sum256([]byte(f.Content))
		f.Digest = digestString(sum[:])
	}
	f.Permissions = read(it, "permissions", 0o644, parsePermissions, func(p uint32) any {
		if f.Symlink != "" {
			return nil
		}
		return fmt.Sprintf("%04o", p)
	})
	f.Owner = it.integer("owner", 0, 0, 1<<32-2)
	f.Group = it.integer("group", 0, 0, 1<<32-2)
	return f
}
