package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// unpackInto extracts into a folder that has a neighbour, which must not change.
func unpackInto(t testing.TB, archive []byte, limit int64) (dir string, got contents, err error) {
	t.Helper()
	top := t.TempDir()
	dir = filepath.Join(top, "root")
	for _, d := range []string{dir, filepath.Join(top, "neighbour")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "neighbour", "file"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	tr, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	x := &extractor{tree: tr, limit: limit}
	got, err = x.extract(context.Background(), bytes.NewReader(archive))

	b, rerr := os.ReadFile(filepath.Join(top, "neighbour", "file"))
	st, serr := os.Lstat(filepath.Join(top, "neighbour", "file"))
	names, lerr := os.ReadDir(top)
	more, merr := os.ReadDir(filepath.Join(top, "neighbour"))
	if e := errors.Join(rerr, serr, lerr, merr); e != nil || string(b) != "mine" || st.Mode() != 0o600 || len(names) != 2 || len(more) != 1 {
		t.Fatalf("the archive reached outside: %q %v %v %v %v", b, st, names, more, e)
	}
	return dir, got, err
}

func TestHostileArchives(t *testing.T) {
	providertest.NeedRoot(t)
	link := func(name, to string) entry { return entry{name: name, kind: tar.TypeSymlink, link: to} }
	hard := func(name, to string) entry { return entry{name: name, kind: tar.TypeLink, link: to} }
	tests := []struct {
		name    string
		entries []entry
		want    string
	}{
		{"dots", []entry{{name: "../neighbour/file", body: "x"}}, "leads out of the image"},
		{"dots inside", []entry{{name: "a/../../neighbour/file", body: "x"}}, "leads out of the image"},
		{"absolute", []entry{{name: "/etc/passwd", body: "x"}}, "leads out of the image"},
		{"folder of dots", []entry{{name: "../"}}, "leads out of the image"},
		{"through a link to the neighbour", []entry{link("a", "../neighbour"), {name: "a/file", body: "x"}}, "goes through a symbolic link"},
		{"through an absolute link", []entry{link("a", "/"), {name: "a/etc/shadow", body: "x"}}, "goes through a symbolic link"},
		{"through a link inside", []entry{{name: "b/"}, link("a", "b"), {name: "a/file", body: "x"}}, "goes through a symbolic link"},
		{"through links to links", []entry{link("a", "b"), link("b", "../neighbour"), {name: "a/file", body: "x"}}, "goes through a symbolic link"},
		{"folder over a link", []entry{link("a", "../neighbour"), {name: "a/", mode: 0o777}}, "goes through a symbolic link"},
		{"hard link to outside", []entry{hard("a", "../neighbour/file")}, "leads out of the image"},
		{"hard link to an absolute name", []entry{hard("a", "/etc/passwd")}, "leads out of the image"},
		{"hard link through a link", []entry{link("d", "../neighbour"), hard("a", "d/file")}, "goes through a symbolic link"},
		{"hard link to nothing", []entry{hard("a", "b")}, "which is not there"},
		{"hard link to a folder", []entry{{name: "b/"}, hard("a", "b")}, "hard link to a folder"},
		{"device", []entry{{name: "sda", kind: tar.TypeBlock}}, "is a device"},
		{"device in a folder called dev", []entry{{name: "x/dev/mem", kind: tar.TypeChar}}, "is a device"},
		{"file over a folder", []entry{{name: "a/"}, {name: "a", body: "x"}}, "is there twice"},
		{"file below a file", []entry{{name: "a", body: "x"}, {name: "a/b", body: "x"}}, "is there twice"},
		{"root is a file", []entry{{name: ".", body: "x"}}, "root is not a folder"},
		{"name too long", []entry{{name: strings.Repeat("a", 300), body: "x"}}, "not a file name"},
		{"path too long", []entry{{name: strings.Repeat("a/", 3000) + "b", body: "x"}}, "not a file name"},
		{"link to nothing", []entry{link("a", "")}, "links to nothing"},
		{"unknown type", []entry{{name: "a", kind: 'M'}}, "unknown type"},
		{"too much", []entry{{name: "a", body: strings.Repeat("x", 600)}, {name: "b", body: strings.Repeat("x", 600)}}, "more than 1 MiB"},
		{"empty", nil, "it is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := unpackInto(t, makeTar(t, tt.entries...), 1000)
			var r *refused
			var big *tooBig
			if !errors.As(err, &r) && !errors.As(err, &big) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("lies about its size", func(t *testing.T) {
		// A header of 8 GiB with nothing behind it.
		b := makeTar(t, entry{name: "a", body: strings.Repeat("x", 900)})
		huge := tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 8 << 30, Mode: 0o644, ModTime: packed}
		var buf bytes.Buffer
		if err := tar.NewWriter(&buf).WriteHeader(&huge); err != nil {
			t.Fatal(err)
		}
		if _, _, err := unpackInto(t, buf.Bytes(), 1<<30); err == nil || !strings.Contains(err.Error(), "more than 1024 MiB") {
			t.Errorf("got %v", err)
		}
		if _, _, err := unpackInto(t, b[:700], 1000); err == nil || !strings.Contains(err.Error(), "in the middle of") {
			t.Errorf("cut: got %v", err)
		}
		if _, _, err := unpackInto(t, []byte("PK\x03\x04"+strings.Repeat("zip", 400)), 1000); err == nil || !strings.Contains(err.Error(), "not a tar archive") {
			t.Errorf("zip: got %v", err)
		}
	})
}

func TestExtractKeepsWhatMatters(t *testing.T) {
	providertest.NeedRoot(t)
	dir, got, err := unpackInto(t, makeTar(t,
		entry{name: "./", mode: 0o711},
		entry{name: "./a/", mode: 0o1777},
		entry{name: "./a/x", body: "first"},
		entry{name: "./a/x", body: "second", mode: 0o4711, more: func(h *tar.Header) { h.Uid = 7 }},
		entry{name: "./a/y", kind: tar.TypeLink, link: "./a/x"},
		entry{name: "l", kind: tar.TypeSymlink, link: "/../../anything"},
		entry{name: "p", kind: tar.TypeFifo, mode: 0o620},
		entry{name: "dev/null", kind: tar.TypeChar},
		entry{name: "deep/er/file", body: "f"},
	), 1000)
	if err != nil {
		t.Fatal(err)
	}
	if got.bytes != 12 || got.entries != 9 || !got.newest.Equal(packed) {
		t.Errorf("%+v", got)
	}
	for name, want := range map[string]os.FileMode{
		".": os.ModeDir | 0o711, "a": os.ModeDir | os.ModeSticky | 0o777, "a/y": os.ModeSetuid | 0o711,
		"l": os.ModeSymlink | 0o777, "p": os.ModeNamedPipe | 0o620, "deep": os.ModeDir | 0o755,
	} {
		st, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, st.Mode(), err, want)
		}
		if name != "deep" && !st.ModTime().Equal(packed) {
			t.Errorf("%s: time %s", name, st.ModTime())
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a/y")); string(b) != "second" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "dev/null")); err == nil {
		t.Error("a device was made")
	}
}

func FuzzExtract(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("needs root")
	}
	f.Add(makeTar(f, entry{name: "a/"}, entry{name: "a/b", body: "x"}, entry{name: "c", kind: tar.TypeSymlink, link: "a"}))
	f.Add(makeTar(f, entry{name: "a", kind: tar.TypeSymlink, link: "../neighbour"}, entry{name: "a/file", body: "x"}))
	f.Add(makeTar(f, entry{name: "h", kind: tar.TypeLink, link: "../neighbour/file"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		unpackInto(t, b, 1<<16)
	})
}
