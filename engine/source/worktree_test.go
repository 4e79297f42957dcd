package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	git "github.com/go-git/go-git/v5"
)

func TestWorkTree(t *testing.T) {
	noGit(t)
	top := t.TempDir()
	dir := filepath.Join(top, "wt")
	write(t, filepath.Join(top, "secret"), "secret")
	for name, content := range map[string]string{
		"site.hcl": "one", "a/b.txt": "b", "mod/.git": "gitdir: ../.git/modules/mod", "mod/x": "x",
		"lfs": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "big": strings.Repeat("x", 2000),
	} {
		write(t, filepath.Join(dir, name), content)
	}
	for name, target := range map[string]string{"here": "site.hcl", "up": "../secret", "abs": filepath.Join(top, "secret")} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := git.PlainInit(dir, false); err != nil {
		t.Fatal(err)
	}
	w, err := WorkTree("file://"+dir, "")
	if err != nil {
		t.Fatal(err)
	}
	w.limits.Blob = 1999
	defer w.Close()
	wantFile(t, w, "site.hcl", "one")
	wantFile(t, w, "here", "one")
	wantFile(t, w, "a/b.txt", "b")
	for name, want := range map[string]error{
		"up": ErrEscapes, "abs": ErrEscapes, "lfs": ErrLFS, "big": ErrLimit, "mod/x": ErrSubmodule,
		".git": fs.ErrNotExist, ".git/config": fs.ErrNotExist, "../secret": fs.ErrInvalid, "none": fs.ErrNotExist,
	} {
		if b, err := w.ReadFile(name); !errors.Is(err, want) {
			t.Errorf("ReadFile(%q) = %q, %v; want %v", name, b, err, want)
		}
	}
	if _, err := w.Stat("up"); !errors.Is(err, ErrEscapes) {
		t.Errorf("Stat through a link out of the tree: %v", err)
	}
	if _, err := w.Open("pipe"); err == nil {
		t.Error("a named pipe was opened")
	}
	list, err := fs.ReadDir(w, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() == ".git" {
			t.Error(".git is listed")
		}
	}
	for _, name := range []string{"up", "abs", "lfs", "big", "pipe", "mod"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := fstest.TestFS(w, "site.hcl", "a/b.txt", "here"); err != nil {
		t.Fatal(err)
	}
}

func TestDirty(t *testing.T) {
	dir := gitRepo(t)
	write(t, filepath.Join(dir, ".gitignore"), "*.log\n/out/\n")
	write(t, filepath.Join(dir, "run.sh"), "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("site.hcl", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	head := gitCommit(t, dir, "second")
	t.Setenv("HOME", t.TempDir())
	noGit(t)
	is := func(what, sub string, want bool) {
		t.Helper()
		got, rev, err := Dirty(t.Context(), dir, sub)
		if err != nil || got != want || rev.Hash != head {
			t.Errorf("%s: dirty %v of %.7s, %v; want %v", what, got, rev.Hash, err, want)
		}
	}
	put := func(name, content string) func() {
		file := filepath.Join(dir, name)
		old, err := os.ReadFile(file)
		write(t, file, content)
		return func() {
			if err != nil {
				_ = os.Remove(file)
				return
			}
			write(t, file, string(old))
		}
	}
	is("as checked out", "", false)
	undo := put("site.hcl", "ONE\n") // the same size
	is("edited", "", true)
	is("edited elsewhere", "sub", false)
	undo()
	is("edited back", "", false)
	undo = put("new.hcl", "x")
	is("a new file", ".", true)
	undo()
	put("x.log", "x")
	put("out/deep/y", "y")
	is("ignored files", "", false)
	if err := os.MkdirAll(filepath.Join(dir, "empty/er"), 0o755); err != nil {
		t.Fatal(err)
	}
	is("an empty folder", "", false)
	undo = put("sub/deep/new", "x")
	is("a new file below", "sub/deep", true)
	is("a folder that is not committed", "empty", true)
	undo()
	write(t, filepath.Join(dir, ".git/info/exclude"), "# mine\nmine.hcl\n")
	put("mine.hcl", "x")
	is("excluded by the user", "", false)
	now := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "site.hcl"), now, now); err != nil {
		t.Fatal(err)
	}
	is("touched", "", false)
	if err := os.Remove(filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	is("a removed link", "", true)
	if err := os.Symlink("other", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	is("a link elsewhere", "", true)

	// All of them, in their order; a folder that is gone is one.
	put("sub/deep/new", "x")
	put("site.hcl", "ONE\n")
	write(t, filepath.Join(dir, "b.hcl"), "x")
	if e, rev, err := Edited(t.Context(), dir, ""); err != nil || rev.Hash != head || e.More || strings.Join(e.Files, " ") != "b.hcl link site.hcl sub/deep/new" {
		t.Errorf("edited: %+v of %.7s, %v", e, rev.Hash, err)
	}
	for i := range mostEdits {
		write(t, filepath.Join(dir, "many", fmt.Sprint(i)), "")
	}
	if e, _, err := Edited(t.Context(), dir, ""); err != nil || !e.More || len(e.Files) != mostEdits {
		t.Errorf("many: %d, more %v, %v", len(e.Files), e.More, err)
	}

	bare := newRepo(t, true).dir
	if _, _, err := Dirty(t.Context(), bare, ""); !errors.Is(err, ErrNoWorkTree) {
		t.Errorf("a bare repository: %v", err)
	}
	if _, err := WorkTree(bare, ""); !errors.Is(err, ErrNoWorkTree) {
		t.Errorf("a bare repository: %v", err)
	}
	if _, err := WorkTree("https://example.org/x", ""); !errors.Is(err, ErrNoWorkTree) {
		t.Errorf("a remote repository: %v", err)
	}
	if _, err := WorkTree(dir, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if dirty, _, err := Dirty(t.Context(), newRepo(t, false).dir, ""); !dirty || !errors.Is(err, ErrNoCommit) {
		t.Errorf("an empty repository: %v %v", dirty, err)
	}
}

// What a filter changes on the way to disk is known to Git through its index only.
func TestFilteredFilesAreClean(t *testing.T) {
	dir := gitRepo(t)
	write(t, filepath.Join(dir, ".gitattributes"), "*.txt text eol=crlf\n")
	gitCommit(t, dir, "line ends")
	file := filepath.Join(dir, "sub/deep/x.txt")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	gitIn(t, dir, "checkout", "-q", "--", "sub")
	if b, err := os.ReadFile(file); err != nil || string(b) != "x\r\n" {
		t.Fatalf("%q, %v", b, err)
	}
	// Away from the time of the index, as after any second command.
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, past, past); err != nil {
		t.Fatal(err)
	}
	gitIn(t, dir, "update-index", "--refresh")
	if dirty, _, err := Dirty(t.Context(), dir, ""); dirty || err != nil {
		t.Fatalf("dirty %v, %v", dirty, err)
	}
}
