package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// makeCpio makes a "newc" archive of empty files, or of files with a body.
func makeCpio(names ...string) []byte {
	var b bytes.Buffer
	for _, n := range append(names, cpioTrailer+"=") {
		name, body, _ := strings.Cut(n, "=")
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, 0o100644, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.WriteString(body)
		b.Write(make([]byte, -b.Len()&3))
	}
	return b.Bytes()
}

func compress(t testing.TB, format string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if format == "zstd" {
		var err error
		if w, err = zstd.NewWriter(&out); err != nil {
			t.Fatal(err)
		}
	}
	w.Write(b)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func noOther(string, io.Reader) (io.Reader, func(), error) {
	return nil, nil, errors.New("not asked for")
}

func TestReadInitrd(t *testing.T) {
	microcode := append(makeCpio("kernel/x86/microcode/GenuineIntel.bin=code"), make([]byte, 512)...)
	main := makeCpio("usr/lib/modules/6.1.0-9-amd64/kernel/drivers/block/nbd.ko=x", "lib/modules/6.1.0-9-amd64/modules.dep",
		"usr/lib/modules/6.1.0-9-amd64/kernel/x/one-more.ko.xz", "usr/sbin/nbdroot=program", "scripts/local-top/dlreconcile")
	for _, format := range []string{"gzip", "zstd", "xz", "none"} {
		packed := main
		other := noOther
		switch format {
		case "gzip", "zstd":
			packed = compress(t, format, main)
		case "xz": // by the image's own program; here it writes what it must
			packed = []byte("\xfd7zXZ\x00…")
			other = func(f string, r io.Reader) (io.Reader, func(), error) {
				if rest, err := io.ReadAll(r); f != "xz" || err != nil || string(rest) != string(packed) {
					t.Errorf("%s: %q, %v", f, rest, err)
				}
				return bytes.NewReader(main), func() {}, nil
			}
		}
		got, err := readInitrd(bytes.NewReader(slices.Concat(microcode, packed)), other)
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if got.compression != format || !slices.Equal(got.versions, []string{"6.1.0-9-amd64"}) || !got.modules["nbd"] || !got.modules["one_more"] ||
			!got.has("nbdroot") || !got.has("scripts/local-top/dlreconcile") || got.has("nbd-client") || !got.files["kernel/x86/microcode/GenuineIntel.bin"] {
			t.Errorf("%s: %+v", format, got)
		}
	}
}

func TestBrokenInitrds(t *testing.T) {
	whole := makeCpio("a=b", "c")
	header := func(at int, field string) []byte {
		b := slices.Clone(whole)
		copy(b[at:], field)
		return b
	}
	for name, b := range map[string][]byte{
		"cut in a header":   whole[:50],
		"cut in a name":     whole[:111],
		"cut in a body":     makeCpio("a=" + strings.Repeat("x", 100))[:150],
		"no trailer":        whole[:len(whole)-124],
		"size is no number": header(54, "zzzzzzzz"),
		"size of 4 GiB":     header(54, "ffffffff"),
		"name of 4 GiB":     header(94, "ffffffff"),
		"name of nothing":   header(94, "00000000"),
		"something else":    []byte("MZ\x00\x00 not an initramfs"),
		"broken zstd":       compress(t, "zstd", whole)[:20],
		"gzip of nothing":   compress(t, "gzip", nil),
		"gzip with bad end": compress(t, "gzip", whole)[:30],
		"a few bytes":       []byte("abc"),
	} {
		_, err := readInitrd(bytes.NewReader(b), noOther)
		var r *refused
		if !errors.As(err, &r) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzInitrd(f *testing.F) {
	f.Add(makeCpio("a=b", "usr/lib/modules/6.1/kernel/nbd.ko"))
	f.Add(compress(f, "gzip", makeCpio("a=b")))
	f.Add(compress(f, "zstd", makeCpio("a=b")))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readInitrd(bytes.NewReader(b), noOther)
		if err == nil && len(got.versions) > 100 {
			t.Fatal(got.versions)
		}
	})
}
