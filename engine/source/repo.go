package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing/cache"
	formatcfg "github.com/go-git/go-git/v5/plumbing/format/config"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// location is where a repository is: exactly one of the fields is set.
type location struct {
	local  string // absolute path
	remote string // http, https or git URL, without credentials
}

// parseRepo reads what an operator writes as the repository. No error of it
// repeats a password.
func parseRepo(repo string) (location, error) {
	if repo == "" {
		return location{}, errors.New("no repository is named")
	}
	scheme, _, isURL := strings.Cut(repo, "://")
	if !isURL {
		// The scp-like form, host:path, as git-clone(1) tells it from a path.
		if colon := strings.IndexByte(repo, ':'); colon > 0 && !strings.Contains(repo[:colon], "/") {
			if _, err := os.Lstat(repo); err != nil {
				return location{}, errors.New("repository: ssh is not supported yet; use an https:// URL or a local path")
			}
		}
		abs, err := filepath.Abs(repo)
		if err != nil {
			return location{}, fmt.Errorf("repository %s: %w", repo, err)
		}
		return location{local: abs}, nil
	}
	u, err := url.Parse(repo)
	if err != nil {
		// The error of url.Parse repeats the URL, and what is in it.
		return location{}, errors.New("repository: the URL cannot be parsed")
	}
	switch strings.ToLower(scheme) {
	case "file":
		if u.Host != "" && u.Host != "localhost" {
			return location{}, fmt.Errorf("repository %s: a file URL names this machine: write file:///path", u.Redacted())
		}
		return location{local: filepath.Clean(u.Path)}, nil
	case "http", "https", "git":
		if u.User != nil {
			return location{}, fmt.Errorf("repository %s://%s%s: credentials in the URL end up in logs and plans; put them in a token file", u.Scheme, u.Host, u.Path)
		}
		if u.Host == "" {
			return location{}, fmt.Errorf("repository %s: the URL has no host", repo)
		}
		return location{remote: u.String()}, nil
	case "ssh", "git+ssh", "ssh+git":
		return location{}, errors.New("repository: ssh is not supported yet; use an https:// URL or a local path")
	default:
		return location{}, fmt.Errorf("repository: %s:// is not supported; use an https:// URL or a local path", scheme)
	}
}

// gitDirs are the folders of a repository; see gitrepository-layout(5).
type gitDirs struct {
	dot    string // HEAD and index: the .git folder, or the bare repository
	common string // refs, packed-refs, objects: the same, but for linked work trees
	work   string // the work tree; "" for a bare repository
}

// findRepo finds the Git folders of the repository at path, which is its top
// folder. It does not look upwards: a daemon that is told a wrong folder must not
// follow whatever repository happens to enclose it.
func findRepo(path string) (gitDirs, error) {
	fail := func(err error) (gitDirs, error) {
		return gitDirs{}, fmt.Errorf("repository %s: %w", path, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return fail(err)
	}
	if !st.IsDir() {
		return fail(errors.New("is not a folder"))
	}
	d := gitDirs{dot: filepath.Join(path, ".git"), work: path}
	switch st, err := os.Stat(d.dot); {
	case err == nil && st.IsDir():
	case err == nil:
		if d.dot, err = readPointer(d.dot, "gitdir: ", path); err != nil {
			return fail(err)
		}
	case errors.Is(err, fs.ErrNotExist):
		d.dot, d.work = path, ""
	default:
		return fail(err)
	}
	d.common = d.dot
	if common, err := readPointer(filepath.Join(d.dot, "commondir"), "", d.dot); err == nil {
		d.common = common
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	for _, p := range []string{filepath.Join(d.dot, "HEAD"), filepath.Join(d.common, "objects")} {
		if _, err := os.Stat(p); err != nil {
			return fail(notARepo(path, err))
		}
	}
	if err := checkFormat(filepath.Join(d.common, "config")); err != nil {
		return fail(err)
	}
	return d, nil
}

// notARepo says where the repository is when path is a folder inside one.
func notARepo(path string, cause error) error {
	if !errors.Is(cause, fs.ErrNotExist) {
		return cause
	}
	for up := filepath.Dir(path); up != filepath.Dir(up); up = filepath.Dir(up) {
		if _, err := os.Stat(filepath.Join(up, ".git")); err == nil {
			rel, _ := filepath.Rel(up, path)
			return fmt.Errorf("is not the top of a Git repository; did you mean the repository %s and the path %s?", up, filepath.ToSlash(rel))
		}
	}
	return errors.New("is not a Git repository")
}

// readPointer reads a file that names another folder, relative to base.
func readPointer(file, prefix, base string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 8192))
	if err != nil {
		return "", err
	}
	target, ok := strings.CutPrefix(strings.TrimSpace(string(b)), prefix)
	if !ok || target == "" || strings.ContainsAny(target, "\n\x00") {
		return "", fmt.Errorf("%s does not name a folder", file)
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(base, target)
	}
	return target, nil
}

// checkFormat refuses the repository formats that cannot be read. Extensions that
// change only how a work tree behaves are none of ours.
func checkFormat(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return nil // Git reads a repository without one, too
	}
	defer f.Close()
	cfg := formatcfg.New()
	if formatcfg.NewDecoder(io.LimitReader(f, 1<<20)).Decode(cfg) != nil {
		return nil // a setting that the decoder does not know; the objects decide
	}
	for _, o := range cfg.Section("extensions").Options {
		switch v := strings.ToLower(o.Value); strings.ToLower(o.Key) {
		case "objectformat":
			if v != "sha1" {
				return fmt.Errorf("the object format %s is not supported; use a sha1 repository", o.Value)
			}
		case "refstorage":
			if v != "files" {
				return fmt.Errorf("the ref storage %s is not supported; convert it with: git refs migrate --ref-format=files", o.Value)
			}
		}
	}
	return nil
}

const (
	objectCache = 4 << 20 // bytes of delta bases kept in memory, also while nothing is read
	largeObject = 1 << 20 // bytes from which a file is streamed and never held
)

// storage opens the object database. It keeps no file open between calls.
func (d gitDirs) storage() *filesystem.Storage {
	var dot billy.Filesystem = osfs.New(d.dot)
	if d.common != d.dot {
		dot = dotgit.NewRepositoryFilesystem(dot, osfs.New(d.common))
	}
	return filesystem.NewStorageWithOptions(dot, cache.NewObjectLRU(objectCache), filesystem.Options{
		LargeObjectThreshold: largeObject,
		// objects/info/alternates may name any folder of the machine.
		AlternatesFS: osfs.New("/"),
	})
}
