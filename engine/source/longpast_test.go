package source

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// More commits that nobody signed for than are looked at cost little memory, and what
// is found out of them is that nothing is known.
func TestLongUnsignedHistory(t *testing.T) {
	providertest.Need(t, "git")
	most := 5_000 // making so many takes longer than reading them
	if os.Getenv(providertest.Full) != "" {
		most = maxHistory
	}
	r := newRepo(t, true)
	trusted := r.commit("trusted", files{"site.hcl": "one"})
	var stream bytes.Buffer
	for i := range most + 10 {
		message := fmt.Sprintf("commit %d %s", i, strings.Repeat("x", 200))
		fmt.Fprintf(&stream, "commit refs/heads/main\ncommitter A <a@example.org> %d +0000\ndata %d\n%s\n", 1700000000+i, len(message), message)
		if i == 0 {
			fmt.Fprintf(&stream, "from %s\n", trusted.Hash)
		}
		stream.WriteString("\n")
	}
	cmd := exec.Command("git", "fast-import", "--quiet", "--force")
	cmd.Dir, cmd.Stdin = r.dir, &stream
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	stream = bytes.Buffer{}
	noGit(t)
	s := mustOpen(t, Config{Repo: r.dir})
	s.objs.most = most
	tip := mustTip(t, s)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	line, err := s.objs.lineage(t.Context(), plumbing.NewHash(tip.Hash), plumbing.NewHash(trusted.Hash))
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || !line.cut || line.descends != unknown || !strings.Contains(line.why, fmt.Sprintf("more than %d commits", most)) {
		t.Fatalf("%v %q, %v", line.descends, line.why, err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > int64(most)*1300 {
		t.Errorf("%d MiB are held afterwards", grown>>20)
	} else {
		t.Logf("%d MiB are held afterwards, %d MiB from the system", grown>>20, after.Sys>>20)
	}
	runtime.KeepAlive(line)
}
