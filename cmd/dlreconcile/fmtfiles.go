package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

// configFiles lists the *.hcl files that paths name: files, and those of folders.
// One that is named in two ways is listed once.
func configFiles(paths []string, recursive bool) ([]string, error) {
	var out []string
	for _, p := range paths {
		st, err := os.Stat(p)
		switch {
		case err != nil:
			return nil, fmt.Errorf("fmt: %w", err)
		case st.IsDir():
			files, err := folderFiles(p, recursive)
			if err != nil {
				return nil, err
			}
			out = append(out, files...)
		case strings.HasSuffix(p, ".hcl.json"):
		case !strings.HasSuffix(p, ".hcl"):
			return nil, &coded{exitUsage, fmt.Errorf("%s is no file of configuration: these end in .hcl", p)}
		default:
			// The file itself is replaced, not a link to it.
			real, err := filepath.EvalSymlinks(p)
			if err != nil {
				return nil, fmt.Errorf("fmt: %w", err)
			}
			out = append(out, real)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// folderFiles lists the files of one folder of configuration. That there is none is
// an error: a check of the wrong folder would find nothing wrong.
func folderFiles(dir string, recursive bool) ([]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("fmt: %w", err)
	}
	defer root.Close()
	folders := []string{"."}
	if recursive {
		folders = schema.Folders(root.FS())
	}
	var out []string
	found := false
	for _, folder := range folders {
		entries, err := fs.ReadDir(root.FS(), folder)
		if err != nil {
			return nil, fmt.Errorf("fmt: %w", err)
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !schema.ConfigFile(e.Name()) {
				continue
			}
			found = true
			if strings.HasSuffix(e.Name(), ".hcl") {
				out = append(out, filepath.Join(dir, filepath.FromSlash(folder), e.Name()))
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("there is no file of configuration in %s: name the folder that holds it, or set --repo and --path", dir)
	}
	return out, nil
}

// readConfig reads a file, up to a size that schema.Format refuses.
func readConfig(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("fmt: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxStdin))
	if err != nil {
		return nil, fmt.Errorf("fmt: %w", err)
	}
	return src, nil
}

// rewrite replaces a file in one step, and leaves its owner and mode as they are.
func rewrite(name string, text []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("fmt: %w", err)
		}
	}()
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(name, renameio.WithStaticPermissions(st.Mode().Perm()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	if owner, ok := st.Sys().(*syscall.Stat_t); ok && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// shownPath is a file as it is called from the working directory.
func shownPath(name string) string {
	here, err := os.Getwd()
	if err != nil || !filepath.IsAbs(name) {
		return name
	}
	rel, err := filepath.Rel(here, name)
	if err != nil || !filepath.IsLocal(rel) {
		return name
	}
	return rel
}
