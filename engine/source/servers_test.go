package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/source/sourcetest"
)

// followVar makes the test binary follow the repository that it names, once, and say
// what that took.
const followVar = "DLRECONCILE_TEST_FOLLOW"

// followed is what it says.
type followed struct {
	Tip   string
	Bytes int64 // of all files together
	Peak  int64 // bytes of memory, at the most
	Err   string
}

func follow(repo string) {
	var out followed
	err := func() error {
		s, err := Open(Config{Repo: repo, Mirror: os.Getenv(followVar + "_MIRROR"), Trust: Trust{Verify: VerifyNone}})
		if err != nil {
			return err
		}
		if _, err := exec.LookPath("git"); err == nil {
			return errors.New("git is on PATH")
		}
		ctx := context.Background()
		rev, err := s.Tip(ctx)
		if err != nil {
			return err
		}
		out.Tip = rev.Hash
		tree, err := s.Tree(ctx, rev)
		if err != nil {
			return err
		}
		f, err := tree.Open("large")
		if err != nil {
			return err
		}
		defer f.Close()
		out.Bytes, err = io.Copy(io.Discard, f)
		return err
	}()
	if err != nil {
		out.Err = err.Error()
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			out.Peak = n << 10
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(out)
}

// followElsewhere follows a repository in a process of its own, without git.
func followElsewhere(t *testing.T, repo string) followed {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{followVar + "=" + repo, followVar + "_MIRROR=" + filepath.Join(t.TempDir(), "m"), "PATH=" + t.TempDir()}
	var said strings.Builder
	cmd.Stderr = &said
	b, err := cmd.Output()
	var out followed
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatalf("%v\n%s%s", err, b, said.String())
	}
	return out
}

// A file far larger than what may be held crosses the network, is taken in and is read,
// in little memory.
func TestLargeBlobTakesLittleMemory(t *testing.T) {
	size := int64(64 << 20)
	if os.Getenv(providertest.Full) != "" {
		size = 1 << 30
	}
	r := newRemote(t)
	gitURL, _ := sourcetest.Daemon(t, filepath.Dir(r.dir), nil)
	file := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	blob := gitIn(t, r.dir, "-c", "core.compression=1", "hash-object", "-w", file)
	cmd := exec.Command("git", "mktree")
	cmd.Dir = r.dir
	cmd.Stdin = strings.NewReader("100644 blob " + blob + "\tlarge\n")
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	commit := gitIn(t, r.dir, "commit-tree", "-m", "large", strings.TrimSpace(string(b)))
	gitIn(t, r.dir, "update-ref", "refs/heads/main", commit)
	const most = 48 << 20
	for name, repo := range map[string]string{"http": r.url, "git": gitURL + "/site.git", "local": r.dir} {
		start := time.Now()
		got := followElsewhere(t, repo)
		t.Logf("%s: %d MiB in %.1f s, %d MiB of memory", name, got.Bytes>>20, time.Since(start).Seconds(), got.Peak>>20)
		if got.Err != "" || got.Tip != commit || got.Bytes != size {
			t.Errorf("%s: %+v", name, got)
		}
		if got.Peak == 0 || got.Peak > most {
			t.Errorf("%s: %d MiB of memory, want at most %d", name, got.Peak>>20, most>>20)
		}
	}
}

func TestGitDaemon(t *testing.T) {
	r := newRepoAt(t, filepath.Join(t.TempDir(), "site.git"), true)
	url, stop := sourcetest.Daemon(t, filepath.Dir(r.dir), nil)
	url += "/site.git"
	noGit(t)
	if _, err := Open(Config{Repo: url, Mirror: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "git:// proves nothing") {
		t.Errorf("without a word about trust: %v", err)
	}
	mirror := t.TempDir()
	s := mustOpen(t, Config{Repo: url, Mirror: mirror, Trust: Trust{Verify: VerifyNone}})
	if _, err := s.Tip(t.Context()); !errors.Is(err, ErrNoCommit) && !errors.Is(err, ErrUnreachable) {
		t.Errorf("an empty repository: %v", err)
	}
	first := r.commit("first", files{"a": "1"})
	if tip := mustTip(t, s); tip.Hash != first.Hash {
		t.Errorf("the tip is %+v", tip)
	}
	second := r.commit("second", files{"a": "2"})
	if tip := mustTip(t, s); tip.Hash != second.Hash {
		t.Errorf("the tip is %+v", tip)
	}
	wantFile(t, mustTree(t, s, second), "a", "2")
	if got, err := s.Resolve(t.Context(), "main~1"); err != nil || got.Hash != first.Hash {
		t.Errorf("Resolve: %+v, %v", got, err)
	}
	missing := mustOpen(t, Config{Repo: strings.Replace(url, "site", "no", 1), Mirror: t.TempDir(), Trust: Trust{Verify: VerifyNone}})
	if _, err := missing.Tip(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no such repository: %v", err)
	}
	stop()
	if _, err := s.Tip(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody listens: %v", err)
	}
	wantFile(t, mustTree(t, s, second), "a", "2")
}

// A server that accepts and says nothing keeps nobody longer than the deadline.
func TestGitServerThatSaysNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the kernel accepts; nobody answers
	s := mustOpen(t, Config{Repo: fmt.Sprintf("git://%s/x", l.Addr()), Mirror: t.TempDir(), Trust: Trust{Verify: VerifyNone}, Timeout: 300 * time.Millisecond})
	if _, err := s.Tip(t.Context()); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
