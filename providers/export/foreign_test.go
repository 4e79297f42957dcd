package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// run runs a foreign client and gives its standard output.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := try(program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(program string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return "", err
	}
	kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer kill.Stop()
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

func (r *rig) uri(name string) string { return "nbd://" + r.addr.String() + "/" + name }

// qemu names an export the long way, which has no characters to escape.
func (r *rig) qemu(name string) []string {
	return []string{"--image-opts", fmt.Sprintf("driver=nbd,server.type=inet,server.host=%s,server.port=%d,export=%s", r.addr.Addr(), r.addr.Port(), name)}
}

// described is what nbdinfo --json says of one export.
type described struct {
	Name       string `json:"export-name"`
	Desc       string `json:"description"`
	Size       int64  `json:"export-size"`
	ReadOnly   bool   `json:"is_read_only"`
	MultiConn  bool   `json:"can_multi_conn"`
	Flush      bool   `json:"can_flush"`
	FUA        bool   `json:"can_fua"`
	Trim       bool   `json:"can_trim"`
	Zero       bool   `json:"can_zero"`
	Rotational bool   `json:"is_rotational"`
	Min        int    `json:"block_size_minimum"`
	Preferred  int    `json:"block_size_preferred"`
	Max        int    `json:"block_size_maximum"`
}

func TestNbdinfo(t *testing.T) {
	providertest.Need(t, "nbdinfo")
	r := newRig(t)
	a, _ := r.artifact(1, 3<<20)
	r.commit(r.input(1, a))
	info := func(args ...string) (protocol string, out []described) {
		var v struct {
			Protocol string      `json:"protocol"`
			Exports  []described `json:"exports"`
		}
		s := run(t, "nbdinfo", append([]string{"--json", "--no-content"}, args...)...)
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			t.Fatalf("%v in %s", err, s)
		}
		return v.Protocol, v.Exports
	}
	cow := described{
		Name: nameOf("arch", a), Desc: "image.arch, ext4, copy-on-write", Size: 3 << 20, MultiConn: true,
		Flush: true, FUA: true, Trim: true, Zero: true, Min: 1, Preferred: 4096, Max: 32 << 20,
	}
	sealed := described{
		Name: nameOf("sealed", a), Desc: "image.arch, ext4, read-only", Size: 3 << 20, MultiConn: true,
		ReadOnly: true, Min: 1, Preferred: 4096, Max: 32 << 20,
	}
	check := func(what string, got []described, want ...described) {
		t.Helper()
		if diff := diffOf(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	proto, got := info(r.uri(nameOf("arch", a)))
	check("copy-on-write", got, cow)
	if proto != "newstyle-fixed" {
		t.Errorf("protocol %q", proto)
	}
	_, got = info(r.uri(nameOf("sealed", a)))
	check("read-only", got, sealed)
	_, got = info("--list", r.uri(""))
	check("list", got, cow, sealed)

	_, got = info(r.uri(nameOf("arch", a) + bootA))
	named := cow
	named.MultiConn = false
	if len(got) == 1 {
		got[0].Name = named.Name // nbdinfo says what it asked for
	}
	check("with a boot instance", got, named)

	if out, err := try("nbdinfo", r.uri("nothing")); err == nil || !strings.Contains(err.Error(), "No such file or directory") {
		t.Errorf("nothing: %v %s", err, out)
	}
	for _, gone := range []string{"arch", "sealed"} { // the alias is not listed, and works
		if got := strings.TrimSpace(run(t, "nbdinfo", "--size", r.uri(gone))); got != fmt.Sprint(3<<20) {
			t.Errorf("--size of %s: %s", gone, got)
		}
	}
}

// What was trimmed is a hole, of the overlay alone.
func TestNbdinfoMap(t *testing.T) {
	providertest.Need(t, "nbdinfo")
	providertest.Need(t, "qemu-io")
	r := newRig(t)
	a, _ := r.artifact(1, 4<<20)
	r.commit(r.input(1, a))
	type extent struct {
		Offset, Length int64
		Description    string
	}
	mapOf := func(name string) (out []extent) {
		if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--map", "--json", r.uri(name))), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	run(t, "qemu-io", append([]string{"-c", "discard 1M 1M", "-c", "write -z -u 3M 64k", "-c", "read -P 0 1M 1M"}, r.qemu(nameOf("arch", a))...)...)
	want := []extent{
		{0, 1 << 20, "data"}, {1 << 20, 1 << 20, "hole,zero"}, {2 << 20, 1 << 20, "data"},
		{3 << 20, 64 << 10, "hole,zero"}, {3<<20 + 64<<10, 1<<20 - 64<<10, "data"},
	}
	if diff := diffOf(want, mapOf(nameOf("arch", a))); diff != "" {
		t.Error(diff)
	}
	if diff := diffOf([]extent{{0, 4 << 20, "data"}}, mapOf(nameOf("sealed", a))); diff != "" {
		t.Error(diff)
	}
}

// The reference implementation's client; attaching with it needs a kernel module.
func TestNbdClientLists(t *testing.T) {
	providertest.Need(t, "nbd-client")
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	out := run(t, "nbd-client", "-l", r.addr.Addr().String(), fmt.Sprint(r.addr.Port()))
	for _, name := range []string{nameOf("arch", a), nameOf("sealed", a)} {
		if !strings.Contains(out, name) {
			t.Errorf("%s is not in %q", name, out)
		}
	}
}

func sameFile(t *testing.T, path string, want []byte, what string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: other bytes", what)
	}
}

// nbdcopy, which uses several connections where it may, in both directions.
func TestNbdcopy(t *testing.T) {
	providertest.Need(t, "nbdcopy")
	r := newRig(t)
	const size = 24<<20 + 512*3 // not a multiple of a block
	a, sealed := r.artifact(1, size)
	_, other := r.artifact(2, size)
	clear(other[8<<20 : 16<<20]) // nbdcopy writes zeros without sending them
	r.commit(r.input(1, a))
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, other, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "nbdcopy", r.uri(nameOf("sealed", a)), out)
	sameFile(t, out, sealed, "read-only to a file")
	for _, name := range []string{nameOf("arch", a), nameOf("arch", a) + bootA} {
		run(t, "nbdcopy", "--flush", r.uri(name), out)
		sameFile(t, out, sealed, "a fresh overlay to a file")
		run(t, "nbdcopy", "--flush", in, r.uri(name))
		run(t, "nbdcopy", r.uri(name), out)
		sameFile(t, out, other, "what was copied there")
	}
	run(t, "nbdcopy", r.uri(nameOf("sealed", a)), out)
	sameFile(t, out, sealed, "the base, afterwards")

	if _, err := try("nbdcopy", in, r.uri(nameOf("sealed", a))); err == nil {
		t.Error("nbdcopy to a read-only export gave no error")
	}

	// Four connections into one overlay, each with many requests at once.
	r.clients.edit(loopback, func(c *provider.Client) { c.Session = "next" })
	run(t, "nbdcopy", "--connections=4", "--requests=64", "--flush", in, r.uri(nameOf("arch", a)))
	r.restart()
	r.commit(r.input(1, a))
	run(t, "nbdcopy", r.uri(nameOf("arch", a)), out)
	sameFile(t, out, other, "after a restart")
}

func TestQemuImg(t *testing.T) {
	providertest.Need(t, "qemu-img")
	r := newRig(t)
	const size = 5 << 20
	a, sealed := r.artifact(1, size)
	_, other := r.artifact(2, size)
	clear(other[1<<20 : 3<<20])
	r.commit(r.input(1, a))
	dir := t.TempDir()
	out, in := filepath.Join(dir, "out.raw"), filepath.Join(dir, "in.raw")
	if err := os.WriteFile(in, other, 0o600); err != nil {
		t.Fatal(err)
	}
	var info struct {
		Size   int64  `json:"virtual-size"`
		Format string `json:"format"`
	}
	if err := json.Unmarshal([]byte(run(t, "qemu-img", "info", "--output=json", r.uri(nameOf("sealed", a)))), &info); err != nil {
		t.Fatal(err)
	}
	if info.Size != size || info.Format != "raw" {
		t.Errorf("%+v", info)
	}
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", r.uri(nameOf("sealed", a)), out)
	sameFile(t, out, sealed, "convert from it")
	compare := func(name, file string) error {
		_, err := try("qemu-img", "compare", "-f", "raw", "-F", "raw", r.uri(name), file)
		return err
	}
	if err := compare(nameOf("sealed", a), out); err != nil {
		t.Error(err)
	}
	if err := compare(nameOf("sealed", a), in); err == nil {
		t.Error("compare with other bytes says that they are the same")
	}
	run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", in, r.uri("arch"))
	if err := compare(nameOf("arch", a), in); err != nil {
		t.Error(err)
	}
	if err := compare(nameOf("sealed", a), out); err != nil {
		t.Errorf("the base, afterwards: %v", err)
	}
}

func TestQemuIO(t *testing.T) {
	providertest.Need(t, "qemu-io")
	r := newRig(t)
	a, _ := r.artifact(1, 8<<20)
	r.commit(r.input(1, a))
	io := func(name string, cmds ...string) {
		t.Helper()
		args := []string{}
		for _, c := range cmds {
			args = append(args, "-c", c)
		}
		if out := run(t, "qemu-io", append(args, r.qemu(name)...)...); strings.Contains(out, "failed") || strings.Contains(out, "error") {
			t.Errorf("%s: %s", name, out)
		}
	}
	name := nameOf("arch", a) + bootA
	io(name,
		"write -P 0xa5 1000 70000", "read -P 0xa5 1000 70000",
		"write -P 0x5a 4096 512", "read -P 0xa5 1000 3096", "read -P 0x5a 4096 512", "read -P 0xa5 4608 66392",
		"write -z 8192 8192", "read -P 0 8192 8192", "write -f -P 0x11 0 512", "flush",
		"aio_write -P 0x22 1M 2M", "aio_write -P 0x33 3M 2M", "aio_flush", "read -P 0x22 1M 2M", "read -P 0x33 3M 2M",
		"discard 1M 64k", "flush",
	)
	r.restart()
	r.commit(r.input(1, a))
	io(name, "read -P 0x11 0 512", "read -P 0 8192 8192", "read -P 0xa5 16384 54616", "read -P 0x22 1088k 1984k", "read -P 0x33 3M 2M")
	// A read-only export is not opened for writing.
	if _, err := try("qemu-io", append([]string{"-c", "write 0 512"}, r.qemu(nameOf("sealed", a))...)...); err == nil {
		t.Error("qemu-io opened a read-only export for writing")
	}
	run(t, "qemu-io", append([]string{"-r", "-c", "read 0 8M"}, r.qemu(nameOf("sealed", a))...)...)
}
