package schema

import (
	"crypto/sha256"
	"slices"
)

// What a recipe covers, in this order. A field that has no value is left out, so
// that one which a later version adds leaves the recipes of images without it alone.

type baseSpec struct {
	Version     int              `json:"version"`
	Debootstrap *debootstrapSpec `json:"debootstrap,omitempty"`
	Tar         string           `json:"tar,omitempty"` // its digest
	Pacstrap    *pacstrapSpec    `json:"pacstrap,omitempty"`
	OCI         *ociSpec         `json:"oci,omitempty"`
	Directory   string           `json:"directory,omitempty"` // its digest
	Disk        *diskSpec        `json:"disk,omitempty"`
}

// sealedSpec has no version of the build: there is none.
type sealedSpec struct {
	Sealed     string `json:"sealed"`
	Filesystem string `json:"filesystem"`
}

// SealedRecipe gives the recipe of an image with a sealed block: digest is the root's.
func SealedRecipe(digest, filesystem string) string { return digestOf(sealedSpec{digest, filesystem}) }

type debootstrapSpec struct {
	Suite      string   `json:"suite"`
	Mirror     string   `json:"mirror,omitempty"`
	Components []string `json:"components"`
	Packages   []string `json:"packages,omitempty"`
	Variant    string   `json:"variant"`
	Keyring    string   `json:"keyring,omitempty"` // its digest
	Arch       string   `json:"arch"`
}

type pacstrapSpec struct {
	Mirror   string   `json:"mirror,omitempty"`
	Packages []string `json:"packages,omitempty"`
	Files    []string `json:"files,omitempty"` // their digests, sorted
	Arch     string   `json:"arch"`
}

// ociSpec leaves out the registry, the name and the tag: wherever it is fetched from,
// the digest says what it is.
type ociSpec struct {
	Digest   string `json:"digest"`
	Platform string `json:"platform"`
}

type diskSpec struct {
	Digest    string `json:"digest"`
	Format    string `json:"format"`
	Partition int    `json:"partition,omitempty"`
}

type imageSpec struct {
	Build      int            `json:"build"`
	Base       baseSpec       `json:"base"`
	Hostname   string         `json:"hostname,omitempty"`
	Timezone   string         `json:"timezone,omitempty"`
	Locale     string         `json:"locale,omitempty"`
	Keymap     string         `json:"keymap,omitempty"`
	Mask       []string       `json:"mask,omitempty"`
	Files      []fileSpec     `json:"files,omitempty"`
	Copies     []copySpec     `json:"copies,omitempty"`
	Initramfs  initramfsSpec  `json:"initramfs"`
	Filesystem filesystemSpec `json:"filesystem"`
}

type fileSpec struct {
	Path        string `json:"path"`
	Digest      string `json:"digest,omitempty"`
	Symlink     string `json:"symlink,omitempty"`
	Permissions uint32 `json:"permissions,omitempty"`
	Owner       int    `json:"owner"`
	Group       int    `json:"group"`
}

type copySpec struct {
	Path        string            `json:"path"`
	From        string            `json:"from"`
	Replace     map[string]string `json:"replace,omitempty"`
	Permissions uint32            `json:"permissions,omitempty"`
}

type initramfsSpec struct {
	Generator string   `json:"generator"`
	Modules   []string `json:"modules,omitempty"`
	Hooks     []string `json:"hooks,omitempty"`
	Binaries  []string `json:"binaries,omitempty"`
	Compress  string   `json:"compress"`
}

type filesystemSpec struct {
	Type     string `json:"type"`
	Size     int64  `json:"size,omitempty"`
	Compress string `json:"compress,omitempty"`
	Label    string `json:"label,omitempty"`
}

// recipes computes the base recipe and the recipe of an image. Neither depends on
// the image's name, on where its files lie in the repo, or on whether a file's text
// stands in the configuration or beside it.
func (l *loader) recipes(img *Image) (base, whole string) {
	if img.Source == SourceSealed {
		r := SealedRecipe(img.Sealed.Digest, img.Filesystem.Type)
		return r, r
	}
	b := l.baseSpec(img)
	s := imageSpec{
		Build: BuildVersion,
		Base:  b, Hostname: img.Hostname, Timezone: img.Timezone, Locale: img.Locale, Keymap: img.Keymap, Mask: img.Mask,
		Initramfs: initramfsSpec{
			Generator: img.Initramfs.Generator, Modules: img.Initramfs.Modules, Hooks: img.Initramfs.Hooks,
			Binaries: img.Initramfs.Binaries, Compress: img.Initramfs.Compress,
		},
		Filesystem: filesystemSpec(img.Filesystem),
	}
	for _, f := range img.Files {
		fs := fileSpec{Path: f.Path, Digest: f.Digest, Symlink: f.Symlink, Owner: f.Owner, Group: f.Group}
		if f.Symlink == "" {
			fs.Permissions = f.Permissions
		}
		s.Files = append(s.Files, fs)
	}
	for _, c := range img.Copies {
		s.Copies = append(s.Copies, copySpec{Path: c.Path, From: c.From, Replace: c.Replace, Permissions: c.Permissions})
	}
	return digestOf(b), digestOf(s)
}

func (l *loader) baseSpec(img *Image) baseSpec {
	b := baseSpec{Version: RecipeVersion}
	switch img.Source {
	case SourceDebootstrap:
		d := img.Debootstrap
		b.Debootstrap = &debootstrapSpec{
			Suite: d.Suite, Mirror: d.Mirror, Components: d.Components, Packages: d.Packages, Variant: d.Variant, Arch: d.Arch,
		}
		if d.Keyring != "" {
			b.Debootstrap.Keyring = l.tree.files[d.Keyring].Digest
		}
	case SourcePacstrap:
		p := img.Pacstrap
		b.Pacstrap = &pacstrapSpec{Mirror: p.Mirror, Packages: p.Packages, Arch: p.Arch}
		for _, f := range p.Files {
			b.Pacstrap.Files = append(b.Pacstrap.Files, f.Digest)
		}
		slices.Sort(b.Pacstrap.Files)
	case SourceTar:
		b.Tar = img.Tar.Digest
	case SourceOCI:
		b.OCI = &ociSpec{Digest: img.OCI.digest(), Platform: img.OCI.Platform}
	case SourceDirectory:
		b.Directory = img.Directory.Digest
	case SourceDisk:
		b.Disk = &diskSpec{Digest: img.Disk.Digest, Format: img.Disk.Format, Partition: img.Disk.Partition}
	}
	return b
}

func digestOf(v any) string {
	sum := sha256.Sum256([]byte(canonical(v)))
	return digestString(sum[:])
}
