package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// always are the packages that every image gets besides its own: mkinitramfs and
// what our hook and any of its compressors need. The kernel is the author's
// choice, and so is the init system.
func always() []string {
	return []string{"initramfs-tools", "kmod", "udev", "zstd", "xz-utils", "lz4"}
}

// baseSpace is a guess at what fetching and installing a small system takes while
// it goes on; what it takes exactly is known only afterwards.
const baseSpace = 700 << 20

// base gives the archive of the packages' part of an image, from the store or
// from the package manager.
func (p *Provider) base(ctx context.Context, img *schema.Image, files fs.FS, report func(step)) (provider.Blob, error) {
	if b, ok := p.Content.Base(img.BaseRecipe); ok {
		return b, nil
	}
	return p.bases.do(ctx, img.BaseRecipe, report, func(ctx context.Context, report func(step)) (provider.Blob, error) {
		if b, ok := p.Content.Base(img.BaseRecipe); ok { // made between the look and the start
			return b, nil
		}
		b, err := p.bootstrap(ctx, img.Debootstrap, files, report)
		if err != nil {
			return provider.Blob{}, err
		}
		return b, p.Content.SetBase(img.BaseRecipe, b)
	})
}

// bootstrap runs the package manager and seals what it gives.
func (p *Provider) bootstrap(ctx context.Context, d *schema.Debootstrap, files fs.FS, report func(step)) (provider.Blob, error) {
	if err := checkPackages(d.Packages); err != nil {
		return provider.Blob{}, err
	}
	dir, err := p.Content.Scratch("base")
	if err != nil {
		return provider.Blob{}, err
	}
	defer os.RemoveAll(dir)
	// apt fetches as a user of its own, who must be able to get there.
	if err := os.Chmod(dir, 0o755); err != nil {
		return provider.Blob{}, err
	}
	if err := needSpace(dir, baseSpace, "installing packages"); err != nil {
		return provider.Blob{}, err
	}
	keyring := ""
	if d.Keyring != "" {
		b, err := fs.ReadFile(files, d.Keyring)
		if err != nil {
			return provider.Blob{}, &mistake{attr: "debootstrap.keyring", summary: "Keyring cannot be read", detail: err.Error()}
		}
		keyring = filepath.Join(dir, "keyring"+filepath.Ext(d.Keyring))
		if err := os.WriteFile(keyring, b, 0o644); err != nil {
			return provider.Blob{}, err
		}
	}
	sources, err := p.sources(d)
	if err != nil {
		return provider.Blob{}, err
	}
	out := filepath.Join(dir, "base.tar")
	run := p.mmdebstrap
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		run = p.debootstrap
	}
	if err := run(ctx, d, dir, out, keyring, sources, report); err != nil {
		return provider.Blob{}, explainFull(explainApt(err), dir, baseSpace, "installing packages")
	}
	report(step{name: "seal", text: "sealing the packages"})
	return p.Content.Seal(ctx, out)
}

// sources gives the package sources, that of the suite itself first.
func (p *Provider) sources(d *schema.Debootstrap) ([]source, error) {
	if d.Mirror != "" {
		return []source{{uri: d.Mirror, suite: d.Suite, components: d.Components}}, nil
	}
	all, err := readAptSources(p.Machine)
	if err != nil {
		return nil, err
	}
	found := suiteSources(all, d.Suite, d.Arch, d.Components, releaseOrigin(p.Machine))
	main := slices.IndexFunc(found, func(s source) bool { return s.suite == d.Suite })
	if main < 0 {
		return nil, &mistake{attr: "debootstrap.suite", summary: "No package source for this suite",
			detail: fmt.Sprintf("this machine's package sources have no %q with %s; name a mirror, or another suite",
				d.Suite, strings.Join(d.Components, ", "))}
	}
	found[0], found[main] = found[main], found[0]
	return found, nil
}

// mmdebstrap makes the archive with mmdebstrap, whose apt has its folders, and so
// its downloads, to itself.
func (p *Provider) mmdebstrap(ctx context.Context, d *schema.Debootstrap, dir, out, keyring string, sources []source, report func(step)) error {
	argv := []string{"mmdebstrap", "--verbose", "--mode=root", "--format=tar", "--variant=" + d.Variant,
		"--architectures=" + d.Arch, "--include=" + strings.Join(packages(d), ",")}
	if keyring != "" {
		argv = append(argv, "--keyring="+keyring)
	}
	argv = append(argv, d.Suite, out)
	for _, s := range sources {
		argv = append(argv, s.String())
	}
	return command{
		argv: argv, dir: dir, env: p.fetchEnv(ctx, dir), private: true,
		line: func(text string) { report(step{name: "mmdebstrap", text: text}) },
	}.run(ctx)
}

// debootstrap does the same where only debootstrap is installed: one source, so no
// updates, and fewer variants.
func (p *Provider) debootstrap(ctx context.Context, d *schema.Debootstrap, dir, out, keyring string, sources []source, report func(step)) error {
	root := filepath.Join(dir, "root")
	argv := []string{"debootstrap", "--arch=" + d.Arch, "--components=" + strings.Join(d.Components, ","),
		"--include=" + strings.Join(packages(d), ",")}
	switch d.Variant {
	case "minbase":
		argv = append(argv, "--variant=minbase")
	case "standard":
	default:
		return &mistake{attr: "debootstrap.variant", summary: "Variant needs mmdebstrap",
			detail: fmt.Sprintf("debootstrap, the only one installed here, has no variant %q; install mmdebstrap", d.Variant)}
	}
	if keyring != "" {
		argv = append(argv, "--keyring="+keyring)
	}
	err := command{
		argv: append(argv, d.Suite, root, sources[0].uri), dir: dir, env: p.fetchEnv(ctx, dir), private: true,
		line: func(text string) { report(step{name: "debootstrap", text: text}) },
	}.run(ctx)
	if err != nil {
		return err
	}
	report(step{name: "debootstrap", text: "packing"})
	return command{
		argv: []string{"tar", "--create", "--file=" + out, "--directory=" + root, "--one-file-system", "--numeric-owner",
			"--xattrs", "--xattrs-include=*", "--sort=name", "--exclude=./var/cache/apt/archives/*.deb", "."},
		env: plainEnv(), dir: dir,
	}.run(ctx)
}

func packages(d *schema.Debootstrap) []string {
	all := append(always(), d.Packages...)
	slices.Sort(all)
	return slices.Compact(all)
}

// checkPackages keeps out what apt would take for something else than the name of
// a package: patterns, paths of .deb files, options.
func checkPackages(names []string) error {
	valid := regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*(:[a-z0-9]+)?([=/][A-Za-z0-9.+~:-]+)?$`)
	for _, n := range names {
		if !valid.MatchString(n) {
			return &mistake{attr: "debootstrap.packages", summary: "Not the name of a package",
				detail: fmt.Sprintf("%q: want a name, optionally with =VERSION or /SUITE", n)}
		}
	}
	return nil
}

// explainApt makes mistakes of what apt says about packages that the author named.
func explainApt(err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	for _, part := range []string{"Unable to locate package", "has no installation candidate", "Couldn't find these debs:",
		"Couldn't find any package", "was not found"} {
		if line, ok := f.said(part); ok && strings.HasPrefix(line, "E: ") {
			return &mistake{attr: "debootstrap.packages", summary: "Package cannot be installed",
				detail: strings.TrimPrefix(line, "E: ") + "; check its name, the suite and the components"}
		}
	}
	if line, ok := f.said("does not have a Release file"); ok {
		return &mistake{attr: "debootstrap.suite", summary: "No such suite", detail: strings.TrimPrefix(line, "E: ")}
	}
	if line, ok := f.said("Depends: "); ok {
		if _, unmet := f.said("unmet dependencies"); unmet {
			return &mistake{attr: "debootstrap.packages", summary: "Packages do not fit together", detail: line}
		}
	}
	return err
}

// plainEnv is the environment of programs that need none.
func plainEnv() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"}
}

// fetchEnv is that of programs that fetch packages: with the proxies that apt uses
// on this machine. INITRD=No spares the initramfs that kernel packages would make:
// the build makes its own.
func (p *Provider) fetchEnv(ctx context.Context, dir string) []string {
	env := append(plainEnv(), "TMPDIR="+dir, "INITRD=No", "DEBIAN_FRONTEND=noninteractive")
	var conf bytes.Buffer
	// Without apt-config there are no proxies to know of.
	_ = command{argv: []string{"apt-config", "dump"}, env: plainEnv(), stdout: &conf}.run(ctx)
	env = append(env, aptProxies(conf.String())...)
	for _, key := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if v := os.Getenv(key); v != "" {
			env = append(env, key+"="+v)
		}
	}
	return append(env, p.Env...)
}

// aptProxies gives the proxies in the output of apt-config dump as environment.
func aptProxies(dump string) []string {
	var env []string
	for line := range strings.Lines(dump) {
		for _, proto := range []string{"http", "https"} {
			v, ok := strings.CutPrefix(line, "Acquire::"+proto+"::Proxy \"")
			if v, _, closed := strings.Cut(v, "\";"); ok && closed && v != "" && v != "DIRECT" {
				env = append(env, proto+"_proxy="+v)
			}
		}
	}
	return env
}
