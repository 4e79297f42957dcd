package image

import (
	"bytes"
	"encoding/binary"
	"io"
)

// portable is what a PE image (Microsoft PE/COFF Specification, revision 11) says of
// itself, as far as it matters for booting it.
type portable struct {
	machine uint16 // IMAGE_FILE_MACHINE_…
	// signed says that there is an attribute certificate table as UEFI wants it
	// (UEFI 2.10, section 32.2.2): certificates in a row up to the end of the table,
	// one of them PKCS #7 signed data. Whether it is good, and whose, only the
	// firmware and its keys tell.
	signed bool
}

// Limits of a PE image, far beyond what is made.
const (
	maxPEHeader     = 64 << 10 // where the headers may begin
	maxOptionalPE   = 4 << 10
	maxCertificates = 16
	maxCertTable    = 1 << 20
)

// readPE reads the headers of a PE image of size bytes. What is none, or is damaged,
// gives false. A damaged certificate table gives an image that is not signed.
func readPE(f io.ReaderAt, size int64) (portable, bool) {
	var none portable
	dos := make([]byte, 64)
	if !readAt(f, dos, 0) || string(dos[:2]) != "MZ" {
		return none, false
	}
	at := int64(binary.LittleEndian.Uint32(dos[60:]))
	// Signature, then the COFF header: machine, number of sections, three fields
	// of four bytes, size of the optional header, flags.
	coff := make([]byte, 24)
	if at > maxPEHeader || !readAt(f, coff, at) || string(coff[:4]) != "PE\x00\x00" {
		return none, false
	}
	p := portable{machine: binary.LittleEndian.Uint16(coff[4:])}
	opt := make([]byte, min(int(binary.LittleEndian.Uint16(coff[20:])), maxOptionalPE))
	if len(opt) < 2 || !readAt(f, opt, at+24) {
		return none, false
	}
	// The data directories follow the fields that differ by width; the fifth is the
	// certificate table, and holds a place in the file, not in memory.
	var dirs int
	switch binary.LittleEndian.Uint16(opt) {
	case 0x10b: // PE32
		dirs = 96
	case 0x20b: // PE32+
		dirs = 112
	default:
		return none, false
	}
	const security = 4
	entry := dirs + 8*security
	if len(opt) < entry+8 || binary.LittleEndian.Uint32(opt[dirs-4:]) <= security {
		return p, true
	}
	table := int64(binary.LittleEndian.Uint32(opt[entry:]))
	length := int64(binary.LittleEndian.Uint32(opt[entry+4:]))
	if table >= at+24+int64(len(opt)) && length <= maxCertTable && table+length <= size {
		p.signed = readCertificates(io.NewSectionReader(f, table, length), length)
	}
	return p, true
}

// readCertificates reads a certificate table. Each certificate begins at a multiple
// of 8: its length, revision, type, and content.
func readCertificates(f io.ReaderAt, length int64) (signed bool) {
	at := int64(0)
	for n := 0; at < length; n++ {
		head := make([]byte, 8)
		if n == maxCertificates || !readAt(f, head, at) {
			return false
		}
		size := int64(binary.LittleEndian.Uint32(head))
		const revision2, pkcs7 = 0x0200, 0x0002
		if size < 8 || size > length-at || binary.LittleEndian.Uint16(head[4:]) != revision2 {
			return false
		}
		if binary.LittleEndian.Uint16(head[6:]) == pkcs7 {
			body := make([]byte, min(size-8, 64))
			if !readAt(f, body, at+8) || !signedData(body, size-8) {
				return false
			}
			signed = true
		}
		at += (size + 7) &^ 7
	}
	return signed
}

// signedData reports whether body begins as a PKCS #7 signed-data that is not longer
// than room (RFC 2315, section 7; X.690): a sequence that begins with the object
// identifier 1.2.840.113549.1.7.2.
func signedData(body []byte, room int64) bool {
	if len(body) < 2 || body[0] != 0x30 {
		return false
	}
	length, rest := int64(body[1]), body[2:]
	if length >= 0x80 { // so many bytes hold it
		n := int(length & 0x7f)
		if n == 0 || n > 4 || n > len(rest) {
			return false
		}
		length = 0
		for _, c := range rest[:n] {
			length = length<<8 | int64(c)
		}
		rest = rest[n:]
	}
	oid := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}
	return int64(len(body)-len(rest))+length <= room && bytes.HasPrefix(rest, oid)
}

// readAt fills b from that place, or reports false.
func readAt(f io.ReaderAt, b []byte, at int64) bool {
	n, _ := f.ReadAt(b, at)
	return n == len(b)
}
