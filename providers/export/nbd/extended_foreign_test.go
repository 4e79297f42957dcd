package nbd

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
)

// newerQEMU gives a program of QEMU that speaks extended headers (from 8.2 on): the
// installed one, or the one that `make deps` unpacked.
func newerQEMU(t *testing.T, program string) string {
	t.Helper()
	for _, p := range []string{program, "../../../bin/newer/usr/bin/" + program} {
		out, _ := exec.Command(p, "--version").Output()
		var major, minor int
		if _, rest, ok := strings.Cut(string(out), "version "); ok {
			fmt.Sscanf(rest, "%d.%d", &major, &minor)
		}
		if major > 8 || major == 8 && minor >= 2 {
			return p
		}
	}
	providertest.Need(t, program+" of QEMU 8.2 (`make deps`)")
	return ""
}

// A disk of 6 GiB, so that lengths of 64 bits are needed, written, zeroed, mapped and
// read by a client that asks for extended headers.
func TestExtendedHeadersOfQEMU(t *testing.T) {
	img, io := newerQEMU(t, "qemu-img"), newerQEMU(t, "qemu-io")
	const size = 6 << 30
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("base", 16<<10)), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	d, err := openSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	s, err := cow.OpenStore(t.TempDir(), cow.Config{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Open(cow.Key{Machine: "m", Instance: "boot-1", Export: "x"}, cow.Base{Digest: d.Digest, Size: size}, d.File, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	h := newShelf()
	h.exports["x"] = Export{Info: Info{Name: "x", Size: size, Zeroes: true}, Backend: o}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, stop := serveOn(t, ln, h, Limits{})
	t.Cleanup(stop)
	uri := fmt.Sprintf("nbd://%s/x", ln.Addr())
	run := func(program string, args ...string) (string, string) {
		t.Helper()
		var out, errs strings.Builder
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil || strings.Contains(out.String(), "failed") {
			t.Fatalf("%s %q: %v\n%s%s", program, args, err, &out, &errs)
		}
		return out.String(), errs.String()
	}

	_, trace := run(io, "--trace", "nbd_*", "-f", "raw", "-c", "read -P 0 64k 64k", "-c", "write -P 0x11 1M 1M", "-c", "write -f -P 0x22 5G 64k", "-c", "read -P 0x22 5G 64k", uri)
	for _, want := range []string{"(extended headers), type 1 (ack)", "type = 1 (write)"} {
		if !strings.Contains(trace, want) {
			t.Errorf("no %q in what it said:\n%s", want, trace)
		}
	}
	type extent struct {
		Start, Length int64
		Zero          bool
	}
	mapOf := func() (list []extent) {
		t.Helper()
		out, trace := run(img, "--trace", "nbd_*", "map", "-f", "raw", "--output=json", uri)
		for _, want := range []string{fmt.Sprintf(".len = %d, .cookie = 1, .flags = 0x8, .type = 7 (block status)", int64(size)), "block status (64-bit)"} {
			if !strings.Contains(trace, want) {
				t.Errorf("no %q in what it said:\n%s", want, trace)
			}
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	want := []extent{{0, 64 << 10, false}, {64 << 10, 1<<20 - 64<<10, true}, {1 << 20, 1 << 20, false}, {2 << 20, 5<<30 - 2<<20, true}, {5 << 30, 64 << 10, false}, {5<<30 + 64<<10, 1<<30 - 64<<10, true}}
	if got := mapOf(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	run(io, "-f", "raw", "-c", "write -z -u 0 2047M", "-c", "write -z -u 2047M 2047M", "-c", "write -z 4094M 2047M", "-c", "read -P 0 5G 1M", "-c", "read -P 0 0 4M", uri)
	if got := mapOf(); fmt.Sprint(got) != fmt.Sprint([]extent{{0, size, true}}) {
		t.Errorf("afterwards: %v", got)
	}
}
