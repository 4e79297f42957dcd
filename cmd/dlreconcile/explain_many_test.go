package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// manyHosts is how many machines with arguments of their own a site has in
// TestOneHostEditedIsOneAnswer.
const manyHosts = 10_000

// manySite is the site of the demo with many hosts. edited is the number of one that
// has another argument; -1 is none.
func manySite(t *testing.T, ports []int, edited int) map[string]string {
	t.Helper()
	files, err := loopbackSite(ports, 1)
	if err != nil {
		t.Fatal(err)
	}
	files["site.hcl"] += `
group "render" {
  args = ["quiet"]
}

host "ws" {
  for_each = { for h in csvdecode(file("hosts.csv")) : h.name => h }
  mac      = each.value.mac
  address  = each.value.address
  group    = group.render
  args     = ["ws.seat=${each.value.seat}"]
}
`
	var csv strings.Builder
	csv.WriteString("name,mac,address,seat\n")
	for i := range manyHosts {
		seat := i
		if i == edited {
			seat += 1_000_000
		}
		fmt.Fprintf(&csv, "ws%05d,52:54:00:01:%02x:%02x,127.1.%d.%d,%d\n", i, i>>8, i&255, i>>8, i&255, seat)
	}
	files["hosts.csv"] = csv.String()
	return files
}

// One host edited changes what one machine gets: no boot tree, script or address of
// the 9,999 others, nor that of a machine without a host block.
func TestOneHostEditedIsOneAnswer(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs")
	ports, err := freePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	repo, state := filepath.Join(dir, "site"), filepath.Join(dir, "state")
	if err := source.Init(repo); err != nil {
		t.Fatal(err)
	}
	program := func(args ...string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], append(args, "--repo", repo, "--state", state, "--config", os.DevNull, "--poll", "1s")...)
		cmd.Env = append(os.Environ(), asCommand+"=1")
		return cmd
	}
	commit := func(edited int) string {
		t.Helper()
		rev, err := source.Commit(repo, manySite(t, ports, edited), "edit")
		if err != nil {
			t.Fatal(err)
		}
		return rev.Hash
	}
	first := commit(-1)

	var log bytes.Buffer
	daemon := program("serve")
	daemon.Stdout, daemon.Stderr = &log, &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := daemon.Wait(); err != nil || t.Failed() {
			t.Errorf("the daemon ends with %v; its log:\n%s", err, tail(log.Bytes(), 4000))
		}
	}()
	served := func(rev string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), applyLimit)
		defer cancel()
		client := api.NewClient(filepath.Join(state, "api.sock"))
		var st engine.Status
		for st.Synced != rev || st.Phase != engine.PhaseIdle {
			got, err := client.Status(ctx, st.Seq)
			switch {
			case err == nil && got.Failure != nil:
				t.Fatalf("%s is refused: %+v", rev, got.Failure)
			case err == nil:
				st = got
			case ctx.Err() != nil:
				t.Fatalf("waited in vain for %s; the last status: %+v", rev, st)
			default:
				<-time.After(10 * time.Millisecond) // nobody listens yet
			}
		}
	}
	explainAll := func() (list []json.RawMessage) {
		t.Helper()
		started := time.Now()
		out, errs, code := runCommand(t, program("explain", "--all", "--json"))
		if code != 0 {
			t.Fatalf("explain: exit %d\n%.4000s\n%s", code, out, errs)
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d boots explained in %.1f s, %d MiB", len(list), time.Since(started).Seconds(), len(out)>>20)
		return list
	}

	served(first)
	before := explainAll()
	const edited = 4711
	served(commit(edited))
	after := explainAll()
	if len(before) != manyHosts+1 || len(after) != len(before) {
		t.Fatalf("%d answers before and %d after, want %d", len(before), len(after), manyHosts+1)
	}
	var differ []int
	for i := range before {
		if !bytes.Equal(before[i], after[i]) {
			differ = append(differ, i)
		}
	}
	if len(differ) != 1 || differ[0] != edited {
		t.Fatalf("the answers of %d machines differ, the first: %v; want that of host %d alone", len(differ), differ[:min(3, len(differ))], edited)
	}
	for _, half := range []struct {
		text json.RawMessage
		seat int
	}{{before[edited], edited}, {after[edited], edited + 1_000_000}} {
		var r struct {
			Machine    string
			KernelLine string `json:"kernel_line"`
		}
		if err := json.Unmarshal(half.text, &r); err != nil {
			t.Fatal(err)
		}
		if r.Machine != `host.ws["ws04711"]` || !strings.HasSuffix(r.KernelLine, fmt.Sprintf(" quiet ws.seat=%d", half.seat)) {
			t.Errorf("%s gets %q", r.Machine, r.KernelLine)
		}
	}
}
