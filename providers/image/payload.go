package image

import (
	"bytes"
	"debug/elf"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// payload holds nbdroot for each architecture that `make build` made it for.
//
//go:embed all:payload
var payload embed.FS

// machines gives what ELF and Go call a Debian architecture.
func machines() map[string]struct {
	elf elf.Machine
	go_ string
} {
	type m = struct {
		elf elf.Machine
		go_ string
	}
	return map[string]m{
		"amd64": {elf.EM_X86_64, "amd64"}, "arm64": {elf.EM_AARCH64, "arm64"}, "i386": {elf.EM_386, "386"},
		"armhf": {elf.EM_ARM, "arm"}, "riscv64": {elf.EM_RISCV, "riscv64"}, "ppc64el": {elf.EM_PPC64, "ppc64le"},
		"s390x": {elf.EM_S390, "s390x"},
	}
}

// program gives nbdroot for a Debian architecture.
func (p *Provider) program(arch string) ([]byte, error) {
	m, ok := machines()[arch]
	if !ok {
		return nil, &mistake{attr: "debootstrap.arch", summary: "Unknown architecture",
			detail: fmt.Sprintf("there is no initramfs program for %q", arch)}
	}
	b, from, err := p.Program, "the given program", error(nil)
	if b == nil {
		b, from, err = carried(m.go_)
	}
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s is no program: %w", from, err)
	}
	defer f.Close()
	if f.Machine != m.elf {
		return nil, fmt.Errorf("%s is for %s, the image for %s", from, f.Machine, arch)
	}
	return b, nil
}

// carried gives the nbdroot inside this binary, else the one beside it.
func carried(goarch string) (b []byte, from string, err error) {
	name := "nbdroot-" + goarch
	b, err = payload.ReadFile("payload/" + name)
	if err == nil {
		return b, "the carried " + name, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	for _, beside := range []string{name, "nbdroot"} {
		file := filepath.Join(filepath.Dir(exe), beside)
		b, err := os.ReadFile(file)
		if err == nil {
			return b, file, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
	}
	return nil, "", fmt.Errorf("this binary carries no %s for the initramfs: build it with make build", name)
}
