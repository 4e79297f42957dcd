package schema

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
)

// settings reads the blocks mount, file and state of an entry, a group or a host.
// Their paths were checked when the block was collected; see checkPaths.
func (it *item) settings() Settings {
	var s Settings
	total := 0
	for _, n := range it.body.blocks {
		it.l.charge(nestedSteps, n.at)
		sub := &item{l: it.l, made: it.made, body: n.body, ctx: it.ctx, prefix: n.path + ".", at: n.at}
		switch n.kind {
		case "mount":
			s.Mounts = append(s.Mounts, sub.mount(n.label))
		case "state":
			s.States = append(s.States, State{
				Range: rangeOf(n.at), Path: n.label,
				Per: sub.text("per", "host", oneOf([]string{"host"})),
			})
		case "file":
			f := sub.hostFile(n.label)
			if before := total; before <= maxHostFiles {
				if total += len(f.Content); total > maxHostFiles {
					it.fail(n.at, "The files are too large together", fmt.Sprintf("The files of one block may have %s together: each machine loads them at every boot, in an initrd of its own. Put what is large into the image.", formatSize(maxHostFiles)))
				}
			}
			s.Files = append(s.Files, f)
		}
	}
	slices.SortFunc(s.Mounts, func(a, b Mount) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(s.Files, func(a, b *HostFile) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(s.States, func(a, b State) int { return strings.Compare(a.Path, b.Path) })
	return s
}

var filesystemName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// onDevices are the usual types of file system that are nowhere without a device.
var onDevices = []string{
	"9p", "btrfs", "ceph", "cifs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "nfs", "nfs4", "none",
	"ntfs", "ntfs3", "smb3", "squashfs", "vfat", "virtiofs", "xfs",
}

func (it *item) mount(path string) Mount {
	m := Mount{Range: rangeOf(it.at), Path: path}
	ok := it.fine(func() {
		m.Type = it.text("type", "", matching(filesystemName, 60, "A type of file system is named by letters, digits, dots, hyphens and underscores: tmpfs, nfs4."))
	})
	if path == "/" {
		if _, _, written := it.value("device"); written {
			it.fail(it.place("device"), "The root has no device", "It is mounted already when this counts, from the entry's export. A mount of \"/\" adds options to it. Take the line away.")
		}
		m.Options = it.exposedTexts("options", onKernelLine, checkRootOption)
		return m
	}
	if ok && m.Type == "" {
		it.fail(it.at, fmt.Sprintf("Mount %q has no type", path), `Say what is mounted there: type = "tmpfs" is memory; type = "none" with device = "/a/folder" and options = ["bind"] is a folder.`)
	}
	m.Device = it.exposedText("device", inFstab, m.Type, checkDevice)
	if !it.has("device") && slices.Contains(onDevices, m.Type) {
		it.fail(it.at, fmt.Sprintf("Mount %q has no device", path), "A file system of this type is somewhere: say where with device = ….")
	}
	m.Options = it.exposedTexts("options", inFstab, checkOption)
	return m
}

// checkField checks what becomes a field of a line of fstab, or a part of one. The
// form has escapes for white space, but not everything that reads it knows them.
func checkField(s string) error {
	switch {
	case s == "" || len(s) > 1000:
		return errors.New("It has 1 to 1000 bytes.")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return errors.New("It becomes a part of a line of fstab, where white space ends a field: it can have none, and no control characters.")
	case strings.Contains(s, `\`):
		return errors.New("It becomes a part of a line of fstab, where a backslash begins the number of a character: it can have none.")
	}
	return nil
}

func checkDevice(s string) error {
	if strings.HasPrefix(s, "#") {
		return errors.New("A line of fstab that begins with # is a comment.")
	}
	return checkField(s)
}

func checkOption(s string) error {
	if strings.Contains(s, ",") {
		return errors.New(`A comma ends an option: write each one by itself, ["nodev", "nosuid"].`)
	}
	return checkField(s)
}

// checkRootOption checks an option of the root, which is a part of the kernel line.
func checkRootOption(s string) error {
	if strings.Contains(s, `"`) {
		return errors.New("The options of the root are a word of the kernel line, where a quotation mark begins a longer word: they can have none.")
	}
	return checkOption(s)
}

// shownContent is the length up to which plans show the text of a file; of what is
// longer, they show the digest.
const shownContent = 256

func (it *item) hostFile(path string) *HostFile {
	f := &HostFile{Range: rangeOf(it.at), Path: path}
	var given []string
	for _, name := range []string{"content", "source"} {
		if it.body.attrs[name] != nil {
			given = append(given, name)
		}
	}
	if len(given) != 1 {
		it.fail(it.at, fmt.Sprintf("File %q has %s content and source", path, []string{"none of", "", "both"}[len(given)]), "It must have exactly one: its text, or a file of the repo.")
		return f
	}
	from := given[0]
	text, secret, ok := it.word(from)
	switch {
	case !ok:
		it.needed(from)
	case from == "content":
		f.Content, f.Sensitive = text, secret
		sum := sha256.Sum256([]byte(text))
		f.Digest = digestString(sum[:])
		if len(text) > maxHostFile {
			it.fail(it.expression(from).Range(), fmt.Sprintf("File %q is too large", path), fmt.Sprintf("It has %d bytes, and %s at most: each machine loads it at every boot. Put what is large into the image.", len(text), formatSize(maxHostFile)))
		}
	case secret:
		it.fail(it.expression(from).Range(), "A sensitive path in source", "Which files are used is shown, so it cannot come from a sensitive value.")
	default:
		name := it.l.path(text)
		content, err := it.l.tree.text(name, maxHostFile)
		if err != nil {
			d := fromError(it.expression(from).Range(), it.l.ofFile(err))
			it.fail(*d.Subject, d.Summary, d.Detail)
			break
		}
		f.Content, f.Digest = content, it.l.tree.files[name].Digest
	}
	if len(f.Content) <= shownContent && utf8.ValidString(f.Content) || f.Sensitive {
		it.recordFrom("content", from, f.Content, f.Sensitive)
	} else {
		it.recordFrom("digest", from, f.Digest, false)
	}
	f.Permissions = read(it, "permissions", 0o644, parsePermissions, func(p uint32) any { return fmt.Sprintf("%04o", p) })
	f.Owner = it.integer("owner", 0, 0, 1<<32-2)
	f.Group = it.integer("group", 0, 0, 1<<32-2)
	return f
}

// word reads text without a record of it.
func (it *item) word(name string) (s string, secret, ok bool) {
	v, secret, ok := it.value(name)
	if !ok {
		return "", false, false
	}
	if v, ok = it.convert(name, it.expression(name).Range(), v, cty.String, "text"); !ok {
		return "", false, false
	}
	return v.AsString(), secret, true
}
