package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSettings(t *testing.T) {
	got, err := readSettings(strings.NewReader(whole))
	if err != nil || got.Hostname != "ws01" || len(got.Mounts) != 2 || string(got.Files[0].Content) != "secret\n" || *got.Files[0].Mode != 0o640 || got.State[0].Key != "ws01" {
		t.Errorf("%+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                           "unexpected end",
		"{}":                         "it has version 0",
		`{"version":2}`:              "it has version 2, and this image's initramfs knows 1",
		`{"version":1} x`:            "after top-level value",
		`{"version":1,"hostname":1}`: "hostname",
		`{"version":1,"files":[{"content":"%"}]}`:          "illegal base64",
		`{"version":1,"files":[{"mode":-1}]}`:              "mode",
		strings.Repeat(" ", maxSettings) + `{"version":1}`: "more than 8 MiB",
	} {
		if _, err := readSettings(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
	none, err := loadSettings(filepath.Join(t.TempDir(), "absent"))
	if err != nil || !none.empty() {
		t.Errorf("no file: %+v, %v", none, err)
	}
}

func FuzzReadSettings(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"state":[{"path":"/../a","key":"a/../.."}],"mounts":[{"path":"/a b\n/x","type":"t","options":["a,b"," "]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readSettings(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, st := range s.State {
			dir, err := stateDir(st)
			if err == nil && (!strings.HasPrefix(dir, stateFolder+"/"+st.Key+"/") || filepath.Clean(dir) != dir ||
				strings.Count(dir, "/") != strings.Count(stateFolder, "/")+2) {
				t.Fatalf("state %+v lies in %q", st, dir)
			}
		}
		var lines []fstabLine
		for _, m := range s.Mounts {
			p, err := cleanPath(m.Path)
			if err != nil || m.Type == "" {
				continue
			}
			l := fstabLine{device: "x", path: p, kind: m.Type, options: m.Options}
			if len(strings.Fields(l.String())) != 6 || fstabPath(l.String()) != p {
				t.Fatalf("the line of %q is %q", p, l)
			}
			lines = append(lines, l)
		}
		const image = "/dev/sda1 / ext4 defaults 0 1\n"
		if got := editFstab(editFstab(image, lines), nil); got != image {
			t.Fatalf("after a boot with and one without mounts: %q", got)
		}
	})
}
