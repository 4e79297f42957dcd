package keyfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	var told []string
	s := Secret(path, 8).Told(func(err error) { told = append(told, err.Error()) })
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string
		err  string
	}{
		{"correct horse\n", 0o600, "correct horse", ""},
		{"battery staple\r\n", 0o640, "battery staple", ""},
		{"battery staple", 0o644, "battery staple", "readable or writable for everybody (mode 0644)"},
		{"battery staple", 0o602, "battery staple", "mode 0602"},
		{"two\nlines here", 0o600, "battery staple", "more than one line"},
		{"\n", 0o600, "battery staple", "is empty"},
		{"short", 0o600, "battery staple", "has 5 bytes, and must have 8"},
		{strings.Repeat("x", maxSize+1), 0o600, "battery staple", "more than"},
		{"again a good one", 0o600, "again a good one", ""},
	} {
		write(t, path, c.text, c.mode)
		for range 2 { // the second time from memory
			got, err := s.Get()
			if string(got) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%.20q, mode %o: %q, %v", c.text, c.mode, got, err)
			}
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(); string(got) != "again a good one" || !os.IsNotExist(err) {
		t.Errorf("no file: %q, %v", got, err)
	}
	if _, err := s.Get(); err == nil {
		t.Error("no file, asked again")
	}
	if len(told) != 7 { // each once, however often it was asked for
		t.Errorf("told %d times: %q", len(told), told)
	}
	write(t, path, "again a good one", 0o600)
	if _, err := s.Get(); err != nil {
		t.Error(err)
	}
	if _, err := Secret(t.TempDir(), 1).Get(); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a folder: %v", err)
	}
}

func TestNoKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pem")
	write(t, path, "nonsense", 0o600)
	if pair, err := Pair(path, path).Get(); pair != nil || err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, %v", pair, err)
	}
	if pool, err := Authorities(path).Get(); pool != nil || err == nil || !strings.Contains(err.Error(), "BEGIN CERTIFICATE") {
		t.Errorf("%v, %v", pool, err)
	}
}
