package source

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Init makes a new repository with a work tree at dir and a branch "main", for
// demonstrations and tests: dlreconcile itself only ever reads repositories.
func Init(dir string) error {
	_, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{
		InitOptions: git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName("main")},
	})
	if err != nil {
		return fmt.Errorf("new repository %s: %w", dir, err)
	}
	return nil
}

// Commit writes files, by slash-separated path, into the work tree at dir and
// commits them together with nothing else. Empty content removes a file.
func Commit(dir string, files map[string]string, message string) (Revision, error) {
	fail := func(err error) (Revision, error) {
		return Revision{}, fmt.Errorf("commit in %s: %w", dir, err)
	}
	repo, err := git.PlainOpen(dir)
	if err != nil {
		return fail(err)
	}
	tree, err := repo.Worktree()
	if err != nil {
		return fail(err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if files[name] == "" {
			if _, err := tree.Remove(name); err != nil {
				return fail(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fail(err)
		}
		if err := os.WriteFile(path, []byte(files[name]), 0o644); err != nil {
			return fail(err)
		}
		if _, err := tree.Add(name); err != nil {
			return fail(err)
		}
	}
	who := &object.Signature{Name: "dlreconcile", Email: "dlreconcile@localhost", When: time.Now()}
	hash, err := tree.Commit(message, &git.CommitOptions{Author: who, AllowEmptyCommits: true})
	if err != nil {
		return fail(err)
	}
	c, err := repo.CommitObject(hash)
	if err != nil {
		return fail(err)
	}
	return revisionOf(c), nil
}
