package bootloader

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Limits of the making of a core image. One takes a fraction of a second.
const (
	grubCoreTime    = time.Minute
	grubModulesSize = 32 << 20 // bytes of one platform's modules; Debian's have 4 MB
)

// grubModules lists what configurations need, and the means to fetch them. Everything
// else comes with these, and nothing is loaded later: each module would be a request.
func grubModules() []string {
	return []string{"tftp", "http", "configfile", "linux", "echo", "test", "regexp", "sleep", "reboot"}
}

// grubSpareModules lists what some platforms have not got, and can do without.
func grubSpareModules() []string { return []string{"serial", "terminal"} }

// grubEarly is what a core image runs at once, in GRUB's rescue language, which has
// no conditions. It asks for the configuration by the name of the machine, where GRUB
// left to itself would ask for lists of modules and by eight parts of the address.
func grubEarly() string {
	var b strings.Builder
	b.WriteString(grubDashes + "\n")
	for range attempts {
		fmt.Fprintf(&b, "configfile \"$prefix/%s%s\"\necho \"dlreconcile: there is no configuration, trying again\"\nsleep 3\n", grubOwn, grubDashed)
	}
	b.WriteString("echo \"dlreconcile: giving up, the machine restarts\"\nsleep 10\nreboot\n")
	return b.String()
}

// grubCore makes the core image of a platform of a tar of its modules. scratch makes a
// folder for it, which is gone afterwards. prefix is as grub-mkimage takes it. The same modules and the same grub-mkimage
// give the same bytes.
func grubCore(ctx context.Context, scratch func(name string) (string, error), p grubPlatform, prefix string, modules io.Reader) (_ []byte, err error) {
	tool, err := grubTool()
	if err != nil {
		return nil, err
	}
	dir, err := scratch("grub")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	folder, early, out := filepath.Join(dir, "modules"), filepath.Join(dir, "early.cfg"), filepath.Join(dir, "core")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	if err := unpackModules(folder, modules); err != nil {
		return nil, fmt.Errorf("modules of GRUB: %w", err)
	}
	if err := os.WriteFile(early, []byte(grubEarly()), 0o600); err != nil {
		return nil, err
	}
	args := []string{"--format=" + p.format, "--directory=" + folder, "--prefix=" + prefix, "--config=" + early, "--output=" + out}
	args = append(args, p.network...)
	args = append(args, grubModules()...)
	for _, m := range grubSpareModules() {
		if _, err := os.Stat(filepath.Join(folder, m+".mod")); err == nil {
			args = append(args, m)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, grubCoreTime)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s for %s: %w: %s", tool, p.platform, errors.Join(ctx.Err(), err), lastLine(said.Bytes()))
	}
	return os.ReadFile(out)
}

// grubTool finds grub-mkimage, which Fedora and openSUSE call grub2-mkimage.
func grubTool() (string, error) {
	for _, name := range []string{"grub-mkimage", "grub2-mkimage"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("grub-mkimage is not installed on this host; it is in the package grub-common")
}

// unpackModules writes the files of a tar into a folder. They are from an image's or
// this host's packages.
func unpackModules(folder string, from io.Reader) error {
	left := int64(grubModulesSize)
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) || filepath.Base(h.Name) != h.Name {
			return fmt.Errorf("%q is not a plain file", h.Name)
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("they have more than %d bytes", grubModulesSize)
		}
		f, err := os.OpenFile(filepath.Join(folder, h.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}

// lastLine gives the last line that a program said.
func lastLine(said []byte) string {
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	return lines[len(lines)-1]
}
