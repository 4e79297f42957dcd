package notify

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What stands in the place of the file of what a forge was told, and is none, keeps
// nobody waiting, and the file is written all the same.
func TestToldIsNoFile(t *testing.T) {
	for what, put := range map[string]func(string) error{
		"FIFO":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.MkdirAll(filepath.Join(p, "x"), 0o700) },
	} {
		file := filepath.Join(t.TempDir(), "commit-status.json")
		for _, path := range []string{file, file + ".next"} {
			if err := put(path); err != nil {
				t.Fatal(err)
			}
		}
		if list := remembered(file, "t"); list != nil {
			t.Errorf("%s: %v", what, list)
		}
		if err := keep(file, "t", []status{{"a", StateSuccess, "applied"}}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if list := remembered(file, "t"); len(list) != 1 {
			t.Errorf("%s: then %v", what, list)
		}
	}
}
