package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// manyHosts is how many machines with arguments of their own a site has in
// TestOneHostEditedIsOneAnswer.
const manyHosts = 10_000

// manySite is a fleet of them in a group. edited is the number of one that has another
// argument; -1 is none.
func manySite(t *testing.T, ports []int, edited int) map[string]string {
	t.Helper()
	files := fleetFiles(t, ports, manyHosts, "csv", edited, 1)
	files["site.hcl"] = strings.Replace(files["site.hcl"], "  args     = [", "  group    = group.render\n  args     = [", 1) + `
group "render" {
  args = ["quiet"]
}
`
	return files
}

// One host edited changes what one machine gets: no boot tree, script or address of
// the 9,999 others, nor that of a machine without a host block.
func TestOneHostEditedIsOneAnswer(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs")
	s := newLoopback(t)
	commit := func(edited int) string { return s.commit(manySite(t, s.ports, edited)) }
	first := commit(-1)
	s.serve()
	explainAll := func() (list []json.RawMessage) {
		t.Helper()
		started := time.Now()
		out, errs, code := runCommand(t, s.command("explain", "--all", "--json"))
		if code != 0 {
			t.Fatalf("explain: exit %d\n%.4000s\n%s", code, out, errs)
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d boots explained in %.1f s, %d MiB", len(list), time.Since(started).Seconds(), len(out)>>20)
		return list
	}

	s.synced(first)
	before := explainAll()
	const edited = 4711
	s.synced(commit(edited))
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
