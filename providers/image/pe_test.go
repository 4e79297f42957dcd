package image

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"
)

// makePE makes the headers of a PE image, and a certificate table at its end.
func makePE(machine uint16, plus bool, table []byte) []byte {
	const at = 0x40
	optional, magic := 96+16*8, uint16(0x10b)
	if plus {
		optional, magic = 112+16*8, 0x20b
	}
	b := make([]byte, 0x400)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[60:], at)
	copy(b[at:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[at+4:], machine)
	binary.LittleEndian.PutUint16(b[at+20:], uint16(optional))
	opt := b[at+24:]
	binary.LittleEndian.PutUint16(opt, magic)
	dirs := optional - 16*8
	binary.LittleEndian.PutUint32(opt[dirs-4:], 16)
	if table != nil {
		binary.LittleEndian.PutUint32(opt[dirs+32:], uint32(len(b)))
		binary.LittleEndian.PutUint32(opt[dirs+36:], uint32(len(table)))
	}
	return append(b, table...)
}

// certificate makes an entry of a certificate table.
func certificate(revision, kind uint16, body string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(8+len(body)))
	b = binary.LittleEndian.AppendUint16(b, revision)
	b = binary.LittleEndian.AppendUint16(b, kind)
	b = append(b, body...)
	return append(b, make([]byte, -len(b)&7)...)
}

// pkcs7 is the beginning of signed data, in a sequence of that many bytes more.
const pkcs7 = "\x30\x82\x00\x1e\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02 signed data 890123"

func TestReadPE(t *testing.T) {
	good := certificate(0x200, 2, pkcs7)
	long := certificate(0x200, 2, strings.Replace(pkcs7, "\x1e", "\x40", 1))
	cut := makePE(0x8664, true, good)
	none := makePE(0x8664, true, good)
	binary.LittleEndian.PutUint32(none[0x40+24+108:], 4) // so many directories that there is no fifth
	inside := makePE(0x8664, true, good)
	binary.LittleEndian.PutUint32(inside[0x40+24+112+32:], 0x80) // in the header itself
	beyond := makePE(0x8664, true, good)
	binary.LittleEndian.PutUint32(beyond[0x40+24+112+32:], 0xfffffff8)
	far := makePE(0x8664, true, nil)
	binary.LittleEndian.PutUint32(far[60:], 0xffffffff)
	tests := []struct {
		name    string
		image   []byte
		is      bool
		machine uint16
		signed  bool
	}{
		{"signed", makePE(0x8664, true, good), true, 0x8664, true},
		{"signed, 32 bit", makePE(0x14c, false, good), true, 0x14c, true},
		{"signed twice", makePE(0xaa64, true, append(good, good...)), true, 0xaa64, true},
		{"X.509 before it", makePE(0xaa64, true, append(certificate(0x200, 1, "x509"), good...)), true, 0xaa64, true},
		{"not signed", makePE(0x8664, true, nil), true, 0x8664, false},
		{"an empty table", makePE(0x8664, true, []byte{}), true, 0x8664, false},
		{"zeros for a table", makePE(0x8664, true, make([]byte, 64)), true, 0x8664, false},
		{"only X.509", makePE(0x8664, true, certificate(0x200, 1, "x509")), true, 0x8664, false},
		{"old revision", makePE(0x8664, true, certificate(0x100, 2, pkcs7)), true, 0x8664, false},
		{"not PKCS #7", makePE(0x8664, true, certificate(0x200, 2, "\x30\x82\x00\x20\x06\x03\x2a\x03\x04"+strings.Repeat("x", 40))), true, 0x8664, false},
		{"longer than its place", makePE(0x8664, true, long), true, 0x8664, false},
		{"a certificate is cut off", cut[:len(cut)-8], true, 0x8664, false},
		{"a second that is damaged", makePE(0x8664, true, append(good, "\xff\xff\xff\xff\x00\x02\x02\x00"...)), true, 0x8664, false},
		{"more than anybody makes", makePE(0x8664, true, bytes.Repeat(good, maxCertificates+1)), true, 0x8664, false},
		{"no such directory", none, true, 0x8664, false},
		{"table in the header", inside, true, 0x8664, false},
		{"table beyond the end", beyond, true, 0x8664, false},
		{"headers beyond the end", far, false, 0, false},
		{"headers cut off", makePE(0x8664, true, nil)[:0x70], false, 0, false},
		{"DOS", []byte("MZ" + strings.Repeat("\x00", 100)), false, 0, false},
		{"text", []byte(strings.Repeat("text", 100)), false, 0, false},
		{"nothing", nil, false, 0, false},
	}
	for _, tt := range tests {
		p, is := readPE(bytes.NewReader(tt.image), int64(len(tt.image)))
		if is != tt.is || p.machine != tt.machine || p.signed != tt.signed {
			t.Errorf("%s: %+v, %v", tt.name, p, is)
		}
	}
}

func FuzzReadPE(f *testing.F) {
	f.Add(makePE(0x8664, true, certificate(0x200, 2, pkcs7)))
	f.Add(makePE(0x14c, false, append(certificate(0x200, 1, "x"), certificate(0x200, 2, pkcs7)...)))
	f.Add([]byte(fakeKernel("6.1.0")))
	f.Add(makeELF(elf.EM_S390, elf.ELFDATA2MSB))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, is := readPE(bytes.NewReader(b), int64(len(b)))
		if p.signed && (!is || !bytes.Contains(b, []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"))) {
			t.Fatalf("%+v, %v", p, is)
		}
		arch, signed := kernelFacts(bytes.NewReader(b), int64(len(b)))
		if signed != p.signed || is && arch != peArch(p.machine) {
			t.Fatalf("%q, %v; %+v", arch, signed, p)
		}
	})
}

func makeELF(m elf.Machine, data elf.Data) []byte {
	b := make([]byte, 64)
	copy(b, elf.ELFMAG)
	b[elf.EI_DATA] = byte(data)
	if data == elf.ELFDATA2MSB {
		binary.BigEndian.PutUint16(b[18:], uint16(m))
	} else {
		binary.LittleEndian.PutUint16(b[18:], uint16(m))
	}
	return b
}

func TestKernelFacts(t *testing.T) {
	bzImage := func(protocol uint16, flags byte) []byte {
		b := []byte(fakeKernel("6.1.0"))
		binary.LittleEndian.PutUint16(b[0x206:], protocol)
		b[0x236] = flags
		return b
	}
	arm := make([]byte, 64)
	copy(arm[56:], "ARM\x64")
	pack := func(b []byte) []byte {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		z.Write(b)
		z.Close()
		return buf.Bytes()
	}
	signed := makePE(0xaa64, true, certificate(0x200, 2, pkcs7))
	for _, tt := range []struct {
		name   string
		image  []byte
		arch   string
		signed bool
	}{
		{"PE", makePE(0x8664, true, nil), "amd64", false},
		{"signed PE", signed, "arm64", true},
		{"signed, and packed", pack(signed), "arm64", false},
		{"packed twice", pack(pack(signed)), "", false},
		{"half a gzip file", pack(bytes.Repeat(signed, 9))[:40], "", false},
		{"PE of an unknown machine", makePE(0x0200, true, nil), "", false},
		{"bzImage, 64 bit", bzImage(0x20f, 1), "amd64", false},
		{"bzImage, 32 bit", bzImage(0x20f, 0), "i386", false},
		{"old bzImage", bzImage(0x20a, 1), "", false},
		{"Image", arm, "arm64", false},
		{"vmlinux", makeELF(elf.EM_PPC64, elf.ELFDATA2LSB), "ppc64el", false},
		{"vmlinux, big-endian", makeELF(elf.EM_S390, elf.ELFDATA2MSB), "s390x", false},
		{"ELF of an unknown machine", makeELF(elf.EM_SPARCV9, elf.ELFDATA2MSB), "", false},
		{"text", []byte("text"), "", false},
	} {
		if arch, signed := kernelFacts(bytes.NewReader(tt.image), int64(len(tt.image))); arch != tt.arch || signed != tt.signed {
			t.Errorf("%s: %q, %v", tt.name, arch, signed)
		}
	}
}
