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
	suiteName     = regexp.MustCompile(`^[a-z][a-z0-9.-]*$`)
	componentName = regexp.MustCompile(`^[a-z][a-z0-9/-]*$`)
	// A package, perhaps with an architecture, and a version or a suite: what apt takes.
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?([=/][A-Za-z0-9.+:~-]+)?$`)
	moduleName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	unitName    = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(service|socket|target|timer|mount|automount|path|swap|slice|device|scope)$`)
	zoneName    = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	localeName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.@-]*$`)
	keymapName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	volumeLabel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	sha256Form  = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
)

// debianArchitectures are the ports of Debian that machines are made of.
var debianArchitectures = []string{"amd64", "arm64", "armel", "armhf", "i386", "loong64", "mips64el", "ppc64el", "riscv64", "s390x"}

var sourceBlocks = []string{"debootstrap", "tar"}

func (l *loader) image(it *item) {
	img := &Image{
		Hostname: it.text("hostname", "", checkHostname),
		Timezone: it.text("timezone", "", matching(zoneName, 100, "A time zone is named as in the tz database: Europe/Berlin, UTC.")),
		Locale:   it.text("locale", "", matching(localeName, 60, "A locale is a language, perhaps with a country and an encoding: en_US.UTF-8.")),
		Keymap:   it.text("keymap", "", matching(keymapName, 60, "A keymap is named by letters, digits, hyphens, dots and underscores: us, de-latin1.")),
		Mask:     it.set("mask", nil, matching(unitName, 255, "A systemd unit is named with its type: e2scrub_reap.service.")),
	}
	var sources []string
	for _, s := range sourceBlocks {
		if it.only(s) != nil {
			sources = append(sources, s)
		}
	}
	switch broken := it.made.block.broken; len(sources) {
	case 0:
		if broken { // perhaps it was one that is not known
			break
		}
		it.fail(it.at, "An image without a source", fmt.Sprintf("Say what it is made from, with a block %s.", listed(sourceBlocks, "or")))
	case 1:
	default:
		it.fail(it.only(sources[1]).at, "An image with two sources", fmt.Sprintf("It has %s blocks, but is made from one of them.", listed(sources, "and")))
	}
	if sub := it.only("debootstrap"); sub != nil {
		img.Source, img.Debootstrap = SourceDebootstrap, sub.debootstrap()
	}
	if sub := it.only("tar"); sub != nil {
		img.Source, img.Tar = SourceTar, sub.tar()
	}
	img.Files = it.files()
	img.Initramfs = it.initramfs()
	if sub := it.only("filesystem"); sub != nil {
		img.Filesystem = sub.filesystem()
	} else if !it.made.block.broken {
		it.fail(it.at, "An image without a file system", `Say what its root becomes: filesystem "ext4" { size = "2GiB" } or filesystem "squashfs" {}.`)
	}
	if it.made.failed {
		return
	}
	img.BaseRecipe, img.Recipe = l.recipes(img)
	img.Meta = it.meta()
	l.out.Images = append(l.out.Images, img)
}

func (it *item) debootstrap() *Debootstrap {
	d := &Debootstrap{
		Suite:      it.text("suite", "", matching(suiteName, 60, "A suite is a release's name: bookworm.")),
		Mirror:     it.text("mirror", "", checkMirror),
		Components: it.texts("components", []string{"main"}, matching(componentName, 60, "A component is a part of the archive: main, contrib, non-free-firmware.")),
		Packages:   it.set("packages", nil, matching(packageName, 200, "A Debian package name has lower-case letters, digits, plus, minus and dots.")),
		Variant:    it.text("variant", "minbase", oneOf([]string{"minbase", "apt", "essential", "standard"})),
		Keyring:    it.text("keyring", "", checkRepoPath),
		Arch:       it.text("arch", "amd64", oneOf(debianArchitectures)),
	}
	it.needed("suite")
	if d.Keyring != "" {
		it.repoFile("keyring", d.Keyring)
	}
	return d
}

func (it *item) tar() *Tar {
	t := &Tar{
		Path: it.text("path", "", checkRepoPath),
		SHA256: read(it, "sha256", "", func(s string) (string, error) {
			if !sha256Form.MatchString(s) {
				return "", errors.New("A SHA-256 digest has 64 hexadecimal digits.")
			}
			return strings.ToLower(s), nil
		}, plain),
	}
	it.needed("path")
	if t.Path == "" {
		return t
	}
	f, ok := it.repoFile("path", t.Path)
	t.Digest = f.Digest
	if ok && t.SHA256 != "" && "sha256:"+t.SHA256 != f.Digest {
		it.fail(it.place("sha256"), fmt.Sprintf("%q has another digest", t.Path), fmt.Sprintf("It has %s. Either the file is not the one that was meant, or the digest must be updated.", strings.TrimPrefix(f.Digest, "sha256:")))
	}
	return t
}

// repoFile takes the digest of a file that an image is made of.
func (it *item) repoFile(attr, name string) (File, bool) {
	f, err := it.l.tree.digest(name)
	if err != nil {
		d := fromError(it.place(attr), err)
		it.fail(*d.Subject, d.Summary, d.Detail)
	}
	if err == nil {
		// So that a plan can say which file it is that changed.
		it.record(attr+"_digest", f.Digest, false)
	}
	return f, err == nil
}

func (it *item) initramfs() Initramfs {
	sub := it.only("initramfs")
	if sub == nil {
		sub = &item{l: it.l, made: it.made, body: &body{}, ctx: it.ctx, prefix: "initramfs.", at: it.at}
	}
	generator := "initramfs-tools"
	for _, n := range it.made.block.body.blocks {
		if n.kind == "initramfs" && n.label != "" {
			generator = n.label
		}
	}
	if generator == "none" {
		return it.ownInitramfs(sub)
	}
	i := Initramfs{
		Generator: generator,
		Modules:   sub.set("modules", nil, matching(moduleName, 60, "A kernel module is named by letters, digits, hyphens and underscores.")),
		Compress:  sub.text("compress", "zstd", oneOf([]string{"zstd", "gzip", "xz", "lz4"})),
	}
	sub.record("generator", i.Generator, false)
	return i
}

// ownInitramfs is initramfs "none": the archive holds one, and nothing is added.
func (it *item) ownInitramfs(sub *item) Initramfs {
	for _, attr := range []string{"modules", "compress"} {
		if sub.has(attr) {
			sub.fail(sub.place(attr), "Nothing makes an initramfs", fmt.Sprintf("initramfs \"none\" takes the one in the archive's /boot as it is, so %s has no effect. Remove it, or the label \"none\".", attr))
		}
	}
	for _, n := range it.made.block.body.blocks {
		if n.kind == "debootstrap" {
			it.fail(n.at, "Nothing makes an initramfs", "Only a tar source can bring its own. Remove the label \"none\".")
		}
	}
	i := Initramfs{Generator: "none"}
	sub.record("generator", i.Generator, false)
	return i
}

func (it *item) filesystem() Filesystem {
	f := Filesystem{}
	for _, n := range it.made.block.body.blocks {
		if n.kind == "filesystem" {
			f.Type = n.label
		}
	}
	it.record("type", f.Type, false)
	show := func(n int64) any {
		if n == 0 {
			return nil
		}
		return formatSize(n)
	}
	f.Size = read(it, "size", 0, parseFilesystemSize, show)
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
	f.Source = it.text("source", "", checkRepoPath)
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
