package schema

import (
	"errors"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// pacmanName is a package, perhaps with its repository before it.
var pacmanName = regexp.MustCompile(`^([a-z0-9][a-z0-9-]*/)?[a-z0-9@_+][a-z0-9@._+-]*$`)

// pacmanFile is how makepkg calls what it makes.
var pacmanFile = regexp.MustCompile(`\.pkg\.tar(\.(zst|xz|gz|bz2|lz4))?$`)

// archArchitectures are those of Arch Linux and its ports, and what Debian calls
// them.
var archArchitectures = map[string]string{
	"x86_64": "amd64", "i686": "i386", "aarch64": "arm64", "armv7h": "armhf", "riscv64": "riscv64",
}

// pacstrap reads an Arch Linux root.
func (it *item) pacstrap() *Pacstrap {
	p := &Pacstrap{
		Mirror:   it.text("mirror", "", checkPacmanMirror),
		Packages: it.set("packages", []string{"base"}, checkPacmanName),
		Arch:     it.text("arch", "x86_64", oneOf(sortedKeys(archArchitectures))),
	}
	names := it.set("files", nil, checkPacmanFile)
	if !it.shownPaths("files") {
		return p
	}
	digests := map[string]string{}
	for _, name := range names {
		f, err := it.l.tree.digest(it.l.path(name))
		if err != nil {
			d := fromError(it.place("files"), it.l.ofFile(err))
			it.fail(*d.Subject, d.Summary, d.Detail)
			continue
		}
		digests[name] = f.Digest
		p.Files = append(p.Files, PackageFile{Path: f.Path, Digest: f.Digest})
	}
	it.record("files_digest", digests, false)
	return p
}

// checkPacmanMirror checks what becomes a Server line of pacman's configuration.
func checkPacmanMirror(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || !slices.Contains([]string{"http", "https", "file"}, u.Scheme) || u.Host == "" && u.Path == "" ||
		strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '[' || r == ']' }):
		return errors.New("A mirror is a URL with http, https or file.")
	case u.User != nil:
		return errors.New("A mirror's URL has no user name or password: it is shown in plans.")
	case !strings.Contains(s, "$repo"):
		return errors.New("pacman puts the name of each of its repositories into the mirror's URL, and this one says nowhere where. It ends like …/$repo/os/$arch.")
	}
	return nil
}

func checkPacmanName(s string) error {
	switch {
	case strings.ContainsAny(s, "=<>"):
		return errors.New("An Arch mirror has one version of a package, so none is chosen here. Choose the day: a mirror of the Arch Linux Archive has what there was on it.")
	case len(s) > 200 || !pacmanName.MatchString(s):
		return errors.New("An Arch package is named by lower-case letters, digits, and @ . _ + -; its repository may stand before it: extra/nfs-utils.")
	}
	return nil
}

func checkPacmanFile(s string) error {
	if !pacmanFile.MatchString(path.Base(s)) {
		return errors.New("A package file is called NAME.pkg.tar.zst, or .xz, .gz, .bz2, .lz4: what makepkg makes.")
	}
	return checkRepoPath(s)
}
