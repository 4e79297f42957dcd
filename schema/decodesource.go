package schema

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var (
	suiteName     = regexp.MustCompile(`^[a-z][a-z0-9.-]*$`)
	componentName = regexp.MustCompile(`^[a-z][a-z0-9/-]*$`)
	// A package, perhaps with an architecture, and a version or a suite: what apt takes.
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?([=/][A-Za-z0-9.+:~-]+)?$`)
	sha256Form  = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
)

// debianArchitectures are the ports of Debian that machines are made of.
var debianArchitectures = []string{"amd64", "arm64", "armel", "armhf", "i386", "loong64", "mips64el", "ppc64el", "riscv64", "s390x"}

// sourceBlocks are the blocks of an image that say what it is made from.
var sourceBlocks = []string{
	string(SourceDebootstrap), string(SourcePacstrap), string(SourceTar),
	string(SourceOCI), string(SourceDirectory), string(SourceDisk), string(SourceSealed),
}

// source reads the one block that says what an image is made from.
func (it *item) source(img *Image) {
	var sources []string
	for _, s := range sourceBlocks {
		sub := it.only(s)
		if sub == nil {
			continue
		}
		sources = append(sources, s)
		switch img.Source = SourceKind(s); img.Source {
		case SourceDebootstrap:
			img.Debootstrap = sub.debootstrap()
		case SourcePacstrap:
			img.Pacstrap = sub.pacstrap()
		case SourceTar:
			img.Tar = sub.tar()
		case SourceOCI:
			img.OCI = sub.oci()
		case SourceDirectory:
			img.Directory = sub.directory()
		case SourceDisk:
			img.Disk = sub.disk()
		case SourceSealed:
			img.Sealed = it.sealedImage(sub, img)
		}
	}
	switch len(sources) {
	case 0:
		if it.made.block.broken { // perhaps it was one that is not known
			break
		}
		it.fail(it.at, "An image without a source", fmt.Sprintf("Say what it is made from, with a block %s.", listed(sourceBlocks, "or")))
	case 1:
	default:
		it.fail(it.only(sources[1]).at, "An image with two sources", fmt.Sprintf("It has %s blocks, but is made from one of them.", listed(sources, "and")))
	}
}

// sealedImage reads an image that nothing is done to any more.
func (it *item) sealedImage(sub *item, img *Image) *Sealed {
	s := &Sealed{Digest: sub.text("digest", "", func(s string) error {
		if hexa, ok := strings.CutPrefix(s, "sha256:"); !ok || !sha256Form.MatchString(hexa) || strings.ToLower(hexa) != hexa {
			return errors.New("It is what `dlreconcile image promote` printed: sha256: and 64 hexadecimal digits, in lower case.")
		}
		return nil
	})}
	sub.needed("digest")
	img.Filesystem.Type = sub.text("filesystem", "", oneOf([]string{"ext4", "btrfs"}))
	sub.needed("filesystem")
	const why = "Its bytes are sealed: nothing can be put into them, nor said about them. What a machine needs of its own goes into its entry, group or host block. Take it away."
	for _, attr := range [...]string{"hostname", "timezone", "locale", "keymap", "mask"} {
		if it.has(attr) {
			it.fail(it.place(attr), "A sealed image with "+attr, why)
		}
	}
	for _, n := range it.made.block.body.blocks {
		switch n.kind {
		case "copy", "file", "initramfs", "filesystem":
			it.fail(n.at, "A sealed image with "+n.kind, why)
		}
	}
	return s
}

func (it *item) debootstrap() *Debootstrap {
	d := &Debootstrap{
		Suite:      it.text("suite", "", matching(suiteName, 60, "A suite is a release's name: bookworm.")),
		Mirror:     it.text("mirror", "", checkMirror),
		Components: it.texts("components", []string{"main"}, matching(componentName, 60, "A component is a part of the archive: main, contrib, non-free-firmware.")),
		Packages:   it.set("packages", nil, matching(packageName, 200, "A Debian package name has lower-case letters, digits, plus, minus and dots.")),
		Variant:    it.text("variant", "minbase", oneOf([]string{"minbase", "apt", "essential", "standard"})),
		Keyring:    it.repoPath("keyring"),
		Arch:       it.text("arch", "amd64", oneOf(debianArchitectures)),
	}
	it.needed("suite")
	if d.Keyring != "" {
		it.repoFile("keyring", d.Keyring)
	}
	return d
}

func (it *item) tar() *Tar {
	t := &Tar{Path: it.repoPath("path"), SHA256: it.sha256()}
	it.needed("path")
	if t.Path != "" {
		t.Digest = it.sealedFile(t.Path, t.SHA256)
	}
	return t
}

// sha256 reads the attribute of that name.
func (it *item) sha256() string {
	return read(it, "sha256", "", func(s string) (string, error) {
		if !sha256Form.MatchString(s) {
			return "", errors.New("A SHA-256 digest has 64 hexadecimal digits.")
		}
		return strings.ToLower(s), nil
	}, plain)
}

// sealedFile takes the digest of the file that path names, and holds it against the
// one that is written, if it is.
func (it *item) sealedFile(name, written string) string {
	f, ok := it.repoFile("path", name)
	if ok && written != "" && "sha256:"+written != f.Digest {
		it.fail(it.place("sha256"), fmt.Sprintf("%q has another digest", name), fmt.Sprintf("It has %s. Either the file is not the one that was meant, or the digest must be updated.", strings.TrimPrefix(f.Digest, "sha256:")))
	}
	return f.Digest
}

// repoFile takes the digest of a file that an image is made of.
func (it *item) repoFile(attr, name string) (File, bool) {
	f, err := it.l.tree.digest(name)
	return f, it.sealed(attr, f, err)
}

// sealed records the digest of what an attribute names, so that a plan can say what
// it is that changed.
func (it *item) sealed(attr string, f File, err error) bool {
	if err != nil {
		d := fromError(it.place(attr), it.l.ofFile(err))
		it.fail(*d.Subject, d.Summary, d.Detail)
		return false
	}
	it.record(attr+"_digest", f.Digest, false)
	return true
}

// directory reads a folder of the repo that is a root.
func (it *item) directory() *Directory {
	d := &Directory{Path: it.repoPath("path")}
	it.needed("path")
	if d.Path == "" {
		return d
	}
	f, err := it.l.tree.folder(d.Path)
	it.sealed("path", f, err)
	d.Digest = f.Digest
	return d
}

// diskFormats are the forms of a disk image.
var diskFormats = []string{"raw", "qcow2"}

// disk reads a disk image: a file of the repo, or one that is fetched.
func (it *item) disk() *Disk {
	d := &Disk{
		Path:      it.repoPath("path"),
		URL:       it.text("url", "", checkURL),
		SHA256:    it.sha256(),
		Format:    it.text("format", diskFormats[0], oneOf(diskFormats)),
		Partition: it.integer("partition", 0, 0, maxPartition),
	}
	switch file, web := it.has("path"), it.has("url"); {
	case file && web:
		it.fail(it.place("url"), "A disk image with path and url", "It is a file of the repo, or fetched from somewhere. Take one of the two away.")
	case !file && !web:
		it.fail(it.at, "A disk image from nowhere", `Say where it is: path = "disk.qcow2" is a file of the repo, url = "https://…" is fetched and needs sha256.`)
	case file && d.Path != "":
		d.Digest = it.sealedFile(d.Path, d.SHA256)
	case web && !it.has("sha256"):
		it.fail(it.place("url"), "A disk image without a digest", `Whoever has the server can put other bytes behind the URL, and the same commit would boot something else tomorrow. Write its digest: sha256 = "…", 64 digits, as sha256sum prints it.`)
	case web:
		d.Digest = "sha256:" + d.SHA256
	}
	if name := d.Path + d.URL; !it.has("format") && strings.EqualFold(path.Ext(name), ".qcow2") {
		it.fail(it.at, "A qcow2 that would be read as raw", `The file is called a qcow2, and without format a disk image is raw. Write format = "qcow2".`)
	}
	return d
}

// checkURL checks where a file is fetched from.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.Host == "" || u.Fragment != "" || len(s) > 2000 ||
		strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r < ' ' || r >= 0x7f }):
		return errors.New("It is fetched from a URL with http or https, a host, and a path.")
	case u.User != nil:
		return errors.New("A URL here has no user name or password: it is shown in plans.")
	}
	return nil
}
