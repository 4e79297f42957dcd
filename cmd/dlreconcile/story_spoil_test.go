package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/node"
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
	path, err := s.largestBlob()
	if err != nil {
		return err
	}
	return os.Remove(path)
}

// cmdChangeBlob overwrites the beginning of the largest blob, in its place.
func cmdChangeBlob(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 0 {
		return errors.New("usage: change-blob")
	}
	path, err := s.largestBlob()
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("not what was sealed"), 0)
	return errors.Join(err, f.Close())
}

func (s *story) largestBlob() (string, error) {
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
	if err == nil && largest == "" {
		err = errors.New("there are no blobs")
	}
	return largest, err
}

// cmdWaitEvent waits for the Nth event of a kind: wait-event KIND N.
func cmdWaitEvent(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: wait-event KIND N")
	}
	left, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	enough := errors.New("enough")
	err = api.NewClient(filepath.Join(s.state, "api.sock")).Events(ctx, 0, func(raw json.RawMessage) error {
		var l node.Logged
		if err := json.Unmarshal(raw, &l); err != nil {
			return err
		}
		if string(l.Kind) == args[0] {
			left--
		}
		if left == 0 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		return fmt.Errorf("%d events %s are missing: %w", left, args[0], err)
	}
	return nil
}
