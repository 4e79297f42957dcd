package source

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// treeOf commits files and opens them.
func treeOf(t *testing.T, fl files) *Tree {
	t.Helper()
	r := newRepo(t, true)
	rev := r.commit("c", fl)
	return mustTree(t, mustOpen(t, Config{Repo: r.dir}), rev)
}

func link(target string) entry { return entry{mode: filemode.Symlink, data: target} }

func TestTreeIsAFileSystem(t *testing.T) {
	noGit(t)
	tree := treeOf(t, files{
		"site.hcl": "one", "a/b/c.txt": "c", "a.txt": "sorts between a and a/b in Git", "empty": "",
		"run.sh": entry{mode: filemode.Executable, data: "#!"},
		"here":   link("site.hcl"), "folder": link("a/b"), "a/up": link("../site.hcl"), "chain": link("here"),
	})
	if err := fstest.TestFS(tree, "site.hcl", "a/b/c.txt", "empty", "run.sh", "here", "chain", "a/up"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"here": "one", "chain": "one", "a/up": "one", "folder/c.txt": "c"} {
		wantFile(t, tree, name, want)
	}
	st, err := tree.Stat("run.sh")
	if err != nil || st.Mode() != 0o755 || !st.ModTime().IsZero() {
		t.Fatalf("run.sh: %v %v", st, err)
	}
	if l, err := tree.Lstat("here"); err != nil || l.Mode().Type() != fs.ModeSymlink || l.Size() != int64(len("site.hcl")) {
		t.Fatalf("here: %v %v", l, err)
	}
	if to, err := tree.ReadLink("folder"); err != nil || to != "a/b" {
		t.Fatalf("folder leads to %q, %v", to, err)
	}
	sub, err := fs.Sub(tree, "a")
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, sub, "b/c.txt", "c")
}

func TestTreeRefusesWhatIsNotInTheCommit(t *testing.T) {
	noGit(t)
	r := newRepo(t, true)
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "secret")
	rev := r.commit("c", files{
		"sub/abs": link(secret), "sub/up": link("../outside"), "sub/far": link("a/../../../../../../etc/passwd"),
		"sub/dir": link("../other"), "sub/loop": link("loop"), "sub/dangling": link("nothing"), "sub/a/x": "x",
		"sub/mod": entry{mode: filemode.Submodule, hash: plumbing.NewHash(strings.Repeat("12", 20))},
		"sub/big.iso": "version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("ab", 32) +
			"\nsize 123456789\n",
		"outside": "outside", "other/y": "y",
	})
	tree := mustTree(t, mustOpen(t, Config{Repo: r.dir, Path: "sub"}), rev)
	for name, want := range map[string]error{
		"abs": ErrEscapes, "up": ErrEscapes, "far": ErrEscapes, "dir/y": ErrEscapes, "dir": ErrEscapes,
		"loop": syscall.ELOOP, "dangling": fs.ErrNotExist, "mod": ErrSubmodule, "mod/x": ErrSubmodule, "big.iso": ErrLFS,
		"../outside": fs.ErrInvalid, "/abs": fs.ErrInvalid, "a/x/y": syscall.ENOTDIR, "none": fs.ErrNotExist, "": fs.ErrInvalid,
	} {
		if f, err := tree.Open(name); !errors.Is(err, want) {
			t.Errorf("Open(%q) = %v, %v; want %v", name, f, err, want)
		}
		if b, err := tree.ReadFile(name); !errors.Is(err, want) {
			t.Errorf("ReadFile(%q) = %q, %v; want %v", name, b, err, want)
		}
	}
	if _, err := tree.ReadDir("mod"); !errors.Is(err, ErrSubmodule) {
		t.Errorf("ReadDir of a submodule: %v", err)
	}
	if st, err := tree.Lstat("up"); err != nil || st.Mode().IsRegular() {
		t.Errorf("Lstat of a link: %v %v", st, err)
	}
	if st, err := tree.Stat("mod"); err != nil || st.Mode().IsRegular() || st.IsDir() {
		t.Errorf("Stat of a submodule: %v %v", st, err)
	}
	s := mustOpen(t, Config{Repo: r.dir, Path: "nowhere"})
	if _, err := s.Tree(t.Context(), rev); !errors.Is(err, ErrNoPath) {
		t.Errorf("a folder that is not there: %v", err)
	}
	s = mustOpen(t, Config{Repo: r.dir, Path: "sub/mod"})
	if _, err := s.Tree(t.Context(), rev); !errors.Is(err, ErrSubmodule) {
		t.Errorf("a submodule as the folder: %v", err)
	}
	if _, err := s.Tree(t.Context(), Revision{Hash: strings.Repeat("1", 40)}); !errors.Is(err, ErrNoRef) {
		t.Errorf("a commit that is not there: %v", err)
	}
}

func TestTreeRefusesNamesThatNoCheckoutAllows(t *testing.T) {
	noGit(t)
	for _, name := range []string{"..", ".", ".git", ".GIT", "a/b", "caf\xe9"} {
		r := newRepo(t, true)
		tree := r.rawTree(object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: r.blob("x")})
		h := r.commitTree(tree, "c")
		s := mustOpen(t, Config{Repo: r.dir})
		if _, err := s.Tree(t.Context(), Revision{Hash: h.String()}); err == nil || !strings.Contains(err.Error(), "has a name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	r := newRepo(t, true)
	e := object.TreeEntry{Name: "x", Mode: filemode.Regular, Hash: r.blob("x")}
	h := r.commitTree(r.rawTree(e, e), "c")
	if _, err := mustOpen(t, Config{Repo: r.dir}).Tree(t.Context(), Revision{Hash: h.String()}); err == nil {
		t.Error("a tree with the same name twice is taken")
	}
}

// A commit of a few hundred bytes that names ten billion files.
func TestTreeLimits(t *testing.T) {
	noGit(t)
	r := newRepo(t, true)
	tree := r.tree(files{"f": "x"})
	for range 10 {
		var entries []object.TreeEntry
		for i := range 10 {
			entries = append(entries, object.TreeEntry{Name: fmt.Sprint(i), Mode: filemode.Dir, Hash: tree})
		}
		tree = r.rawTree(entries...)
	}
	open := func(tree plumbing.Hash, l Limits) (*Tree, error) {
		s := mustOpen(t, Config{Repo: r.dir, Limits: l})
		fsys, err := s.Tree(t.Context(), Revision{Hash: r.commitTree(tree, "c").String()})
		if err != nil {
			return nil, err
		}
		return fsys.(*Tree), nil
	}
	if _, err := open(tree, Limits{}); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "50000 files") {
		t.Fatalf("ten billion files: %v", err)
	}
	deep := r.tree(files{"f": "x"})
	for range 20 {
		deep = r.rawTree(object.TreeEntry{Name: "d", Mode: filemode.Dir, Hash: deep})
	}
	if _, err := open(deep, Limits{Depth: 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := open(deep, Limits{Depth: 19}); !errors.Is(err, ErrLimit) {
		t.Fatalf("20 folders deep with a limit of 19: %v", err)
	}
	sized, err := open(r.tree(files{"a": "1234", "b": "12345", "c": "123456", "same": "1234"}), Limits{Blob: 5, Total: 9})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, sized, "a", "1234")
	wantFile(t, sized, "same", "1234") // the same blob counts once
	if _, err := sized.Open("c"); !errors.Is(err, ErrLimit) {
		t.Fatalf("a file over the limit: %v", err)
	}
	wantFile(t, sized, "b", "12345")
	if _, err := open(r.tree(files{"a": "1234", "b": "12345"}), Limits{Files: 1}); !errors.Is(err, ErrLimit) {
		t.Fatalf("two files with a limit of one: %v", err)
	}
	total, err := open(r.tree(files{"a": "1234", "b": "12345"}), Limits{Total: 8})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, total, "a", "1234")
	if _, err := total.Open("b"); !errors.Is(err, ErrLimit) {
		t.Fatalf("nine bytes together with a limit of eight: %v", err)
	}
}

// noise is data that does not compress, the same for the same seed.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestLargeFilesAreStreamed(t *testing.T) {
	dir := gitRepo(t)
	gitIn(t, dir, "config", "core.bigFileThreshold", "4m")
	data := noise(1, 12<<20)
	write(t, filepath.Join(dir, "big"), string(data))
	// Two versions of a file below the threshold: one becomes a delta of the other.
	mid := noise(2, 3<<20)
	write(t, filepath.Join(dir, "mid"), string(mid))
	gitCommit(t, dir, "one")
	mid = append(mid, "more"...)
	copy(mid[1000:], "changed")
	write(t, filepath.Join(dir, "mid"), string(mid))
	gitCommit(t, dir, "two")
	for _, packed := range []bool{false, true} {
		t.Run(fmt.Sprintf("packed=%v", packed), func(t *testing.T) {
			if packed {
				gitIn(t, dir, "-c", "pack.compression=0", "gc", "-q", "--prune=now")
			}
			s := mustOpen(t, Config{Repo: dir})
			tree := mustTree(t, s, mustTip(t, s))
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			f, err := tree.Open("big")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			h := sha256.New()
			if n, err := io.Copy(h, struct{ io.Reader }{f}); err != nil || n != int64(len(data)) {
				t.Fatalf("read %d bytes: %v", n, err)
			}
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
				t.Errorf("reading a file of 12 MiB allocated %d MiB", got>>20)
			}
			if sum := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), sum[:]) {
				t.Error("wrong bytes")
			}
			checkSeek(t, f.(io.ReadSeeker), data)
			got, err := tree.ReadFile("mid")
			if err != nil || !bytes.Equal(got, mid) {
				t.Errorf("mid: %d bytes, %v", len(got), err)
			}
			m, err := tree.Open("mid")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, m, 10); err != nil { // given up early: nothing may stay
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("reading a closed file: %v", err)
			}
		})
	}
}

func checkSeek(t *testing.T, f io.ReadSeeker, data []byte) {
	t.Helper()
	for _, off := range []int64{0, 1 << 20, 5<<20 + 7, 3, int64(len(data)) - 5} {
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 5)
		if _, err := io.ReadFull(f, buf); err != nil || !bytes.Equal(buf, data[off:off+5]) {
			t.Fatalf("at %d: %x, %v", off, buf, err)
		}
	}
	if n, err := f.Seek(0, io.SeekEnd); err != nil || n != int64(len(data)) {
		t.Fatalf("the end is at %d, %v", n, err)
	}
	if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("at the end: %d, %v", n, err)
	}
	if _, err := f.Seek(-1, io.SeekStart); err == nil {
		t.Fatal("seek before the start works")
	}
}

// objectFile is the loose object of h.
func objectFile(dir string, h plumbing.Hash) string {
	return filepath.Join(dir, "objects", h.String()[:2], h.String()[2:])
}

// Bytes that are not what the commit names are never handed out as if they were.
func TestDamagedObjects(t *testing.T) {
	noGit(t)
	for _, size := range []int{100, 3 << 20} {
		r := newRepo(t, true)
		content := string(noise(3, size))
		rev := r.commit("c", files{"f": content, "g": string(noise(4, size))})
		h, other := plumbing.ComputeHash(plumbing.BlobObject, []byte(content)), plumbing.ComputeHash(plumbing.BlobObject, noise(4, size))
		s := mustOpen(t, Config{Repo: r.dir})
		tree := mustTree(t, s, rev)
		// A sound object under the wrong name.
		if err := os.Rename(objectFile(r.dir, other), objectFile(r.dir, h)); err != nil {
			t.Fatal(err)
		}
		if _, err := tree.ReadFile("f"); !errors.Is(err, errDamaged) {
			t.Errorf("size %d, swapped: %v", size, err)
		}
		if _, err := tree.ReadFile("g"); !errors.Is(err, errDamaged) {
			t.Errorf("size %d, missing: %v", size, err)
		}
		if !s.objs.suspect.Load() {
			t.Error("the damage is not remembered")
		}
		if err := os.Chmod(objectFile(r.dir, h), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(objectFile(r.dir, h), int64(size/2)); err != nil {
			t.Fatal(err)
		}
		if _, err := tree.ReadFile("f"); !errors.Is(err, errDamaged) {
			t.Errorf("size %d, truncated: %v", size, err)
		}
	}
}

func TestTreeFromManyGoroutines(t *testing.T) {
	noGit(t)
	fl := files{"large": string(noise(5, 2<<20))}
	for i := range 50 {
		fl[fmt.Sprintf("d%d/f", i)] = fmt.Sprint(i)
	}
	tree := treeOf(t, fl)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				if b, err := tree.ReadFile(fmt.Sprintf("d%d/f", i)); err != nil || string(b) != fmt.Sprint(i) {
					t.Errorf("%q, %v", b, err)
				}
			}
			if b, err := tree.ReadFile("large"); err != nil || len(b) != 2<<20 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
}

// The bytes of tree objects come from whoever may push.
func FuzzTree(f *testing.F) {
	f.Add([]byte("100644 a\x00" + strings.Repeat("\x01", 20)))
	f.Add([]byte("40000 ..\x00" + strings.Repeat("\x02", 20) + "120000 l\x00" + strings.Repeat("\x03", 20)))
	f.Add([]byte("160000 m\x00" + strings.Repeat("\x04", 20)))
	shared := newRepo(f, true)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := &testRepo{t: t, dir: shared.dir, repo: shared.repo}
		// The blob's name, so that entries can lead somewhere.
		h := r.blob("x")
		raw = bytes.ReplaceAll(raw, bytes.Repeat([]byte{1}, 20), h[:])
		c := r.commitTree(r.object(plumbing.TreeObject, raw), "c")
		fsys, err := mustOpen(t, Config{Repo: r.dir}).Tree(t.Context(), Revision{Hash: c.String()})
		if err != nil {
			return
		}
		_ = fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
			if !fs.ValidPath(name) {
				t.Fatalf("walked to %q", name)
			}
			if err == nil && e.Type().IsRegular() {
				_, _ = fs.ReadFile(fsys, name)
			}
			return nil
		})
	})
}
