package statefile

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is no file is told at once, and so is one that is far too large.
func TestUnfit(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(path string) error
		want string
	}{
		"FIFO":      {func(p string) error { return unix.Mkfifo(p, 0o600) }, "it is no file"},
		"directory": {func(p string) error { return os.Mkdir(p, 0o700) }, "it is no file"},
		"device":    {func(p string) error { return os.Symlink(os.DevNull, p) }, "it is no file"},
		"socket": {func(p string) error {
			l, err := net.Listen("unix", p)
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, "it is no file"},
		"link to nothing": {func(p string) error { return os.Symlink("nothing", p) }, "it is a link to nothing"},
		"link to itself":  {func(p string) error { return os.Symlink(p, p) }, "it is a link that leads nowhere"},
		"sparse":          {func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 20<<30)) }, "it has 21474836480 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			if err := c.put(path); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path, 1<<20)
			var unfit *UnfitError
			if !errors.As(err, &unfit) || !strings.HasPrefix(unfit.Why, c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			aside, err := SetAside(path, time.Unix(1e9, 0), os.Rename)
			if err != nil || filepath.Base(aside) != "f.damaged-20010909T014640.000Z" {
				t.Errorf("%q, %v", aside, err)
			}
			if _, err := Read(path, 1<<20); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("then %v", err)
			}
		})
	}
}

func TestSetAsideKeepsThree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for i := range 5 {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := SetAside(path, time.Unix(int64(1e9+i/2), 0), os.Rename); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ := filepath.Glob(path + ".damaged-*"); len(list) != 3 {
		t.Errorf("%q", list)
	}
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(path, 4); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestFree(t *testing.T) {
	dir := t.TempDir()
	free, total, err := Free(dir)
	if err != nil || free < 0 || total <= 0 || free > total {
		t.Errorf("%d of %d, %v", free, total, err)
	}
	missing := filepath.Join(dir, "missing")
	if _, _, err := Free(missing); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("%v", err)
	}
}
