package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// initrd is what an initramfs holds, as far as it matters.
type initrd struct {
	compression string          // of its last part: "zstd", "gzip", "xz", "lz4", "none"
	versions    []string        // kernels that it has modules for; sorted
	modules     map[string]bool // by moduleName
	files       map[string]bool // names, without leading "./" and "usr/"
}

// has looks for a file by its whole name, or a program by its base name.
func (i *initrd) has(name string) bool {
	if strings.Contains(name, "/") {
		return i.files[name]
	}
	return i.files["sbin/"+name] || i.files["bin/"+name]
}

// Limits of an initramfs: what no machine could boot from.
const (
	maxInitrd      = 4 << 30 // decompressed
	maxInitrdFiles = 1 << 20
)

// readInitrd reads an initramfs as the kernel does (Documentation/driver-api/
// early-userspace/buffer-format.rst): cpio archives in a row, zeros between them,
// each plain or compressed. A compressed one is the last that is read. other
// decompresses the formats that this program does not know.
func readInitrd(r io.Reader, other func(format string, r io.Reader) (io.Reader, func(), error)) (*initrd, error) {
	i := &initrd{compression: "none", modules: map[string]bool{}, files: map[string]bool{}}
	br := bufio.NewReaderSize(r, 1<<20)
	for {
		if err := skipZeros(br); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		magic, err := br.Peek(6)
		if err != nil {
			return nil, refuse("it ends in the middle of something")
		}
		if string(magic) == cpioMagic {
			if err := i.archive(br); err != nil {
				return nil, err
			}
			continue
		}
		var plain io.Reader
		done := func() {}
		switch {
		case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
			i.compression = "gzip"
			z, err := gzip.NewReader(br)
			if err != nil {
				return nil, refuse("it is a broken gzip file: %v", err)
			}
			z.Multistream(false)
			plain = refusing{z, "gzip"}
		case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
			i.compression = "zstd"
			z, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
			if err != nil {
				return nil, err
			}
			plain, done = refusing{z, "zstd"}, z.Close
		default:
			switch {
			case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
				i.compression = "xz"
			case bytes.HasPrefix(magic, []byte{0x02, 0x21, 0x4c, 0x18}): // the kernel's own, legacy frame
				i.compression = "lz4"
			default:
				return nil, refuse("it has a part that is neither cpio nor compressed in a known way: % x", magic)
			}
			if plain, done, err = other(i.compression, br); err != nil {
				return nil, err
			}
		}
		err = func() error {
			defer done() // also when it panics: nobody would read from the program again
			return i.archive(bufio.NewReaderSize(io.LimitReader(plain, maxInitrd), 1<<20))
		}()
		if err != nil {
			return nil, err
		}
		break
	}
	slices.Sort(i.versions)
	return i, nil
}

// skipZeros skips padding.
func skipZeros(br *bufio.Reader) error {
	for {
		c, err := br.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return br.UnreadByte()
		}
	}
}

// The "new ASCII" format of cpio: a magic, 13 fields of 8 hex digits, the name
// with a final zero, and the content, the last two padded to 4 bytes.
const (
	cpioMagic   = "070701"
	cpioHeader  = 110
	cpioTrailer = "TRAILER!!!"
)

// archive reads one cpio archive up to its trailer.
func (i *initrd) archive(r *bufio.Reader) error {
	head := make([]byte, cpioHeader)
	for {
		if _, err := io.ReadFull(r, head); err != nil {
			return cut(err)
		}
		if m := string(head[:6]); m != cpioMagic && m != "070702" {
			return refuse("its cpio archive is broken")
		}
		size, err1 := strconv.ParseUint(string(head[54:62]), 16, 32)
		nameLen, err2 := strconv.ParseUint(string(head[94:102]), 16, 32)
		if err1 != nil || err2 != nil || nameLen == 0 || nameLen > maxPath {
			return refuse("its cpio archive has a broken header")
		}
		name := make([]byte, nameLen)
		if _, err := io.ReadFull(r, name); err != nil {
			return cut(err)
		}
		if err := discard(r, pad4(cpioHeader+int64(nameLen))); err != nil {
			return err
		}
		plain := strings.TrimSuffix(string(name), "\x00")
		if plain == cpioTrailer {
			return nil
		}
		if err := discard(r, int64(size)+pad4(int64(size))); err != nil {
			return err
		}
		if err := i.add(plain); err != nil {
			return err
		}
	}
}

func cut(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse("its cpio archive ends too early")
	}
	return err
}

func pad4(n int64) int64 { return -n & 3 }

func discard(r *bufio.Reader, n int64) error {
	if _, err := io.CopyN(io.Discard, r, n); err != nil {
		return cut(err)
	}
	return nil
}

func (i *initrd) add(name string) error {
	name = strings.TrimPrefix(strings.TrimPrefix(path.Clean(name), "/"), "usr/")
	if len(i.files) >= maxInitrdFiles {
		return refuse("it has more than %d files", maxInitrdFiles)
	}
	i.files[name] = true
	rest, ok := strings.CutPrefix(name, "lib/modules/")
	if !ok {
		return nil
	}
	version, file, _ := strings.Cut(rest, "/")
	if !slices.Contains(i.versions, version) {
		if len(i.versions) == 100 {
			return refuse("it has modules for more than 100 kernels")
		}
		i.versions = append(i.versions, version)
	}
	if strings.Contains(path.Base(file), ".ko") {
		i.modules[moduleName(file)] = true
	}
	return nil
}
