package schema

import (
	"errors"
	"regexp"
	"strings"
)

// The grammar of a reference to a container image, as the distribution project has
// it: a registry, a name, perhaps a tag, and a digest.
var (
	ociRegistry = regexp.MustCompile(`^[A-Za-z0-9]+([.-][A-Za-z0-9]+)*(:[0-9]{1,5})?$`)
	ociName     = regexp.MustCompile(`^[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*$`)
	ociTag      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	ociDigest   = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// ociPlatforms are those of container images that machines can be made of, and what
// Debian calls them.
var ociPlatforms = map[string]string{
	"linux/amd64": "amd64", "linux/386": "i386", "linux/arm64": "arm64", "linux/arm/v7": "armhf", "linux/arm/v5": "armel",
	"linux/riscv64": "riscv64", "linux/ppc64le": "ppc64el", "linux/s390x": "s390x", "linux/loong64": "loong64", "linux/mips64le": "mips64el",
}

func (it *item) oci() *OCI {
	o := &OCI{
		Reference: it.text("reference", "", checkOCI),
		Platform:  it.text("platform", "linux/amd64", oneOf(sortedKeys(ociPlatforms))),
	}
	it.needed("reference")
	return o
}

// checkOCI checks a reference to a container image. The digest is that of a
// manifest, or of an index that has one for the platform.
func checkOCI(s string) error {
	named, digest, pinned := strings.Cut(s, "@")
	registry, rest, ok := strings.Cut(named, "/")
	name, tag, tagged := strings.Cut(rest, ":")
	switch {
	case strings.Contains(s, "://"):
		return errors.New("A reference has no scheme: it begins with the registry, registry.example/name@sha256:….")
	case !pinned:
		return errors.New("It has no digest. A tag names another image tomorrow, and then the same commit would boot something else. Write the digest behind it, registry.example/name:tag@sha256:…; skopeo inspect and crane digest print it, and a tag may stay as a note for people.")
	case !ociDigest.MatchString(digest):
		return errors.New("The digest behind the @ is sha256: and 64 hexadecimal digits in lower case.")
	case !ok || !strings.ContainsAny(registry, ".:") && registry != "localhost":
		return errors.New("It does not say which registry it is from, and there is no default, so that it means the same everywhere. Write it in front: docker.io/library/debian@sha256:….")
	case len(s) > 500 || !ociRegistry.MatchString(registry) || !ociName.MatchString(name) || tagged && !ociTag.MatchString(tag):
		return errors.New("A reference has the form registry.example/name:tag@sha256:…; the name has lower-case letters, digits, and . _ - / between them, and the tag may be left out.")
	}
	return nil
}

// digest is that of a reference that was checked.
func (o *OCI) digest() string { return o.Reference[strings.IndexByte(o.Reference, '@')+1:] }
