package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdSpoil changes one place of a file: spoil FILE A B TO.
func cmdSpoil(_ *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 4 {
		return errors.New("usage: spoil FILE A B TO")
	}
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	if err != nil {
		return err
	}
	spoilt := bytes.Replace(b, []byte(args[1]), []byte(args[2]), 1)
	if bytes.Equal(spoilt, b) {
		return fmt.Errorf("%s has no %q in it", args[0], args[1])
	}
	return os.WriteFile(ts.MkAbs(args[3]), spoilt, 0o644)
}

// cmdLoseBlob removes the largest blob: a root that was built.
func cmdLoseBlob(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 0 {
		return errors.New("usage: lose-blob")
	}
	var largest string
	var size int64
	err := filepath.WalkDir(filepath.Join(s.state, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	return os.Remove(largest)
}
