package source

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/hash"
)

// packOf packs all of a repository with the real git.
func packOf(t testing.TB, dir string, options ...string) string {
	t.Helper()
	gitIn(t, dir, append(options, "-c", "pack.threads=1", "repack", "-q", "-a", "-d", "-f", "--depth=20", "--window=10")...)
	packs, err := filepath.Glob(filepath.Join(dir, ".git/objects/pack/*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatalf("packs: %v, %v", packs, err)
	}
	return packs[0]
}

func indexOf(t testing.TB, ctx context.Context, pack string, limits Limits) ([]byte, error) {
	t.Helper()
	f, err := os.Open(pack)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scratch := t.TempDir()
	p := packIndexer{ctx: ctx, file: f, limits: limits.withDefaults(), scratch: scratch}
	index, _, err := p.index()
	if left, _ := os.ReadDir(scratch); len(left) > 0 || p.spilled != 0 {
		t.Errorf("%d files and %d bytes are left behind", len(left), p.spilled)
	}
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := idxfile.NewEncoder(&b).Encode(index); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), nil
}

// deltaRepo has files whose versions differ in little: small ones, and one that is not
// held in memory.
func deltaRepo(t testing.TB) string {
	dir := gitRepo(t)
	large := noise(1, 2*largeObject)
	text := strings.Repeat("a line of a file\n", 500)
	for i := range 6 {
		copy(large[i*1000:], noise(byte(i), 100))
		write(t, filepath.Join(dir, "large"), string(large))
		write(t, filepath.Join(dir, "text"), text+fmt.Sprint(i)+text)
		write(t, filepath.Join(dir, "d", fmt.Sprint(i)), fmt.Sprint(i))
		gitCommit(t, dir, fmt.Sprint("commit ", i))
	}
	return dir
}

// The index is git's own, to the byte.
func TestPackIndexIsGits(t *testing.T) {
	dir := deltaRepo(t)
	for name, options := range map[string][]string{
		"deltas by offset": {"-c", "repack.useDeltaBaseOffset=true"},
		"deltas by name":   {"-c", "repack.useDeltaBaseOffset=false"},
	} {
		pack := packOf(t, dir, options...)
		got, err := indexOf(t, t.Context(), pack, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(pack, ".pack") + ".idx")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the index differs from git's", name)
		}
		if deltas := gitIn(t, dir, "verify-pack", "-v", pack); !strings.Contains(deltas, "chain length = 2") {
			t.Errorf("%s: the pack has no chains of deltas:\n%s", name, deltas)
		}
	}
}

func TestPackLimits(t *testing.T) {
	dir := deltaRepo(t)
	pack := packOf(t, dir)
	for name, l := range map[string]Limits{"an object": {Blob: 1 << 20}, "all": {Total: 3 << 20}} {
		if _, err := indexOf(t, t.Context(), pack, l); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := indexOf(t, ctx, pack, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	whole, err := os.ReadFile(pack)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"cut off": whole[:len(whole)/2],
		"empty":   nil,
		"flipped": append(append(bytes.Clone(whole[:len(whole)/2]), ^whole[len(whole)/2]), whole[len(whole)/2+1:]...),
	} {
		file := filepath.Join(t.TempDir(), "pack")
		write(t, file, string(bad))
		if _, err := indexOf(t, t.Context(), file, Limits{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// What a fetch may bring is bounded on the wire, and nothing of it stays.
func TestFetchLimit(t *testing.T) {
	r := newRemote(t)
	noGit(t)
	mirror := t.TempDir()
	first := r.commit("first", files{"a": "1"})
	now := testNow
	s := mustOpen(t, Config{Repo: r.url, Mirror: mirror, Limits: Limits{Fetch: 1 << 20}, Now: func() time.Time { return now }})
	mustTip(t, s)
	r.commit("large", files{"a": "2", "large": string(noise(1, 2<<20))})
	for range 2 {
		if _, err := s.Tip(t.Context()); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "brings more than 1048576 bytes") {
			t.Fatalf("a large fetch: %v", err)
		}
	}
	if n := r.fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want one of each commit", n)
	}
	now = now.Add(overAgain)
	if _, err := s.Tip(t.Context()); !errors.Is(err, ErrLimit) || r.fetches.Load() != 3 {
		t.Errorf("an hour later: %v, %d fetches", err, r.fetches.Load())
	}
	if left, err := filepath.Glob(filepath.Join(mirror, "objects/pack/tmp_*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	wantFile(t, mustTree(t, s, first), "a", "1")
	third := r.commit("small", files{"a": "3"})
	if _, err := s.Tip(t.Context()); !errors.Is(err, ErrLimit) { // it brings the large one, too
		t.Errorf("what follows: %v", err)
	}
	again := mustOpen(t, Config{Repo: r.url, Mirror: mirror})
	if tip := mustTip(t, again); tip.Hash != third.Hash {
		t.Errorf("the tip is %s", tip.Hash)
	}
}

// FuzzPatch follows deltas that mean harm.
func FuzzPatch(f *testing.F) {
	f.Add([]byte("base"), []byte{4, 6, 0x90, 4, 2, 'x', 'y'})
	f.Add([]byte("base"), []byte{4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, base, delta []byte) {
		r := bufio.NewReader(bytes.NewReader(delta))
		from, to, err := deltaSizes(r)
		if err != nil || from != int64(len(base)) || to > 1<<20 {
			return
		}
		var out bytes.Buffer
		if err := patch(&out, bytes.NewReader(base), from, r, to); err == nil && int64(out.Len()) != to {
			t.Errorf("%d bytes, want %d", out.Len(), to)
		}
	})
}

// FuzzPackIndex reads packs that mean harm, and whose checksum is right.
func FuzzPackIndex(f *testing.F) {
	pack, err := os.ReadFile(packOf(f, gitRepo(f)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pack[:len(pack)-20])
	scratch := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := os.CreateTemp(scratch, "pack")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file.Name())
		defer file.Close()
		sum := hash.New(crypto.SHA1)
		sum.Write(data)
		if _, err := file.Write(sum.Sum(data)); err != nil {
			t.Fatal(err)
		}
		p := packIndexer{ctx: t.Context(), file: file, limits: Limits{Blob: 1 << 20, Total: 8 << 20}.withDefaults(), scratch: scratch}
		_, _, _ = p.index()
		if p.spilled != 0 {
			t.Errorf("%d bytes are left behind", p.spilled)
		}
	})
}
