package image

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
)

// kernelFacts says for which Debian architecture a kernel is, "" when it does not
// say, and whether it is signed for UEFI Secure Boot.
func kernelFacts(f io.ReaderAt, size int64) (arch string, signed bool) {
	head := make([]byte, 0x250)
	n, _ := f.ReadAt(head, 0)
	head = head[:n]
	if bytes.HasPrefix(head, []byte{0x1f, 0x8b}) {
		// What firmware is given is not signed then, whatever is inside.
		arch, _ = kernelFacts(plainHead(f, size))
		return arch, false
	}
	// Every kernel with an EFI stub is a PE image, and x86's are ever so much else.
	if p, ok := readPE(f, size); ok {
		return peArch(p.machine), p.signed
	}
	switch {
	case len(head) == 0x250 && string(head[0x202:0x206]) == "HdrS":
		// Documentation/arch/x86/boot.rst: xloadflags since protocol 2.12; bit 0 is
		// a 64-bit entry point.
		if binary.LittleEndian.Uint16(head[0x206:]) < 0x20c {
			return "", false
		}
		if head[0x236]&1 != 0 {
			return "amd64", false
		}
		return "i386", false
	case len(head) >= 64 && string(head[56:60]) == "ARM\x64": // Documentation/arch/arm64/booting.rst
		return "arm64", false
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)) && len(head) >= 20:
		var order binary.ByteOrder = binary.LittleEndian
		if head[elf.EI_DATA] == byte(elf.ELFDATA2MSB) {
			order = binary.BigEndian
		}
		return elfArch(elf.Machine(order.Uint16(head[18:]))), false
	}
	return "", false
}

// archiveArch gives the architecture of the kernel in the tree, where nothing else
// says what it is for.
func (b *build) archiveArch() (string, error) {
	const usual = "amd64"
	k, ok, err := newestKernel(b.tree)
	if err != nil || !ok {
		return usual, err // findKernel says so
	}
	f, err := b.tree.openRegular(k.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	arch, _ := kernelFacts(f, st.Size())
	return cmp.Or(arch, usual), nil
}

// plainHead gives the first bytes of what is in a gzip file.
func plainHead(f io.ReaderAt, size int64) (io.ReaderAt, int64) {
	var b []byte
	if z, err := gzip.NewReader(io.NewSectionReader(f, 0, size)); err == nil {
		b, _ = io.ReadAll(io.LimitReader(z, 2*maxPEHeader)) // as far as it is whole
	}
	if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		b = nil // not again and again
	}
	return bytes.NewReader(b), int64(len(b))
}

// peArch gives the Debian architecture of IMAGE_FILE_MACHINE_….
func peArch(m uint16) string {
	switch m {
	case 0x8664:
		return "amd64"
	case 0x014c:
		return "i386"
	case 0xaa64:
		return "arm64"
	case 0x01c0, 0x01c2, 0x01c4:
		return "armhf"
	case 0x5064:
		return "riscv64"
	case 0x6264:
		return "loong64"
	}
	return ""
}

// elfArch gives the Debian architecture of EM_….
func elfArch(m elf.Machine) string {
	for arch, is := range machines() {
		if is.elf == m {
			return arch
		}
	}
	return ""
}
