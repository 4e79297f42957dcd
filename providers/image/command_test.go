package image

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestCommandIsPrivate(t *testing.T) {
	providertest.NeedRoot(t)
	var told []string
	dir := t.TempDir()
	err := command{
		argv: []string{"sh", "-c", `mount -t tmpfs inside "$0" && touch "$0/seen" && hostname inside; echo "pids $(ls /proc | grep -c '^[0-9]')"; ip link 2>/dev/null | grep -c eth; sleep 1000 & echo gone`, dir},
		env:  plainEnv(), private: true, offline: true,
		line: func(l string) { told = append(told, l) },
	}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The shell, the pipe's two ends, and nobody of this machine; no network card.
	if len(told) != 3 || len(told[0]) != len("pids 4") || told[1] != "0" || told[2] != "gone" {
		t.Errorf("it said %q", told)
	}
	if _, err := os.Stat(filepath.Join(dir, "seen")); err == nil {
		t.Error("its mount is seen outside")
	}
	if h, _ := os.Hostname(); h == "inside" {
		t.Error("it renamed the machine")
	}
}

func TestCommandFailure(t *testing.T) {
	err := command{argv: []string{"sh", "-c", `echo one; printf 'two\rthree\n' >&2; echo "$HOME $SECRET"; exit 7`}, env: plainEnv()}.run(t.Context())
	if err == nil || err.Error() != "sh: exit status 7: one | two | three | /root" {
		t.Errorf("got %v", err)
	}
	err = command{argv: []string{"no-such-program"}}.run(t.Context())
	if err == nil || !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "no-such-program is needed to build images") {
		t.Errorf("got %v", err)
	}
	long := &lines{}
	long.Write([]byte(strings.Repeat("x", 100000) + "\n" + strings.Repeat("line\n", 100)))
	if len(long.tail) != tailLines {
		t.Errorf("%d lines are kept", len(long.tail))
	}
}

// fakeBootstrap puts an mmdebstrap first in PATH: a script that has its own folder
// in $dir and the archive that it is to make in $out.
func fakeBootstrap(t *testing.T, script string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text := "#!/bin/sh\ndir=" + dir + "\nfor out in \"$@\"; do case $out in */base.tar) break ;; esac; done\n" + script
	if err := os.WriteFile(filepath.Join(dir, "mmdebstrap"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func bootstrapImage(edit func(*schema.Image)) *schema.Image {
	return newImage("fake", func(i *schema.Image) {
		i.Source = schema.SourceDebootstrap
		i.Debootstrap = &schema.Debootstrap{Suite: "bookworm", Mirror: "http://192.0.2.1/debian", Components: []string{"main"},
			Packages: []string{"linux-image-amd64", "zstd"}, Variant: "minbase", Arch: "amd64"}
		i.Initramfs.Compress = "gzip"
		i.Filesystem = schema.Filesystem{Type: "squashfs", Compress: "lz4"}
		if edit != nil {
			edit(i)
		}
	})
}

func TestBaseIsMadeOnce(t *testing.T) {
	providertest.Need(t, "mksquashfs")
	p := fakeProvider(t)
	dir := fakeBootstrap(t, `echo "$@" >>"$dir/runs"; echo "$INITRD $TMPDIR" >>"$dir/env"; cp "$dir/archive" "$out"`)
	if err := os.WriteFile(filepath.Join(dir, "archive"), makeTar(t, fakeRoot(t)...), 0o644); err != nil {
		t.Fatal(err)
	}
	one := bootstrapImage(nil)
	two := bootstrapImage(func(i *schema.Image) { i.Addr.Name, i.Hostname = "second", "" })
	if one.BaseRecipe != two.BaseRecipe || one.Recipe == two.Recipe {
		t.Fatal("the recipes are not what this test is about")
	}
	p = newProvider(t, Config{Content: p.Content, Program: p.Program, Concurrency: 2, Env: []string{"http_proxy=http://192.0.2.7:3128"}})
	in := provider.Input{Want: &schema.Desired{Images: []*schema.Image{one, two}}, Files: fstest.MapFS{}}
	txn, err := p.Prepare(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if len(txn.Outputs()) != 2 {
		t.Error(txn.Outputs())
	}
	runs, err := os.ReadFile(filepath.Join(dir, "runs"))
	if err != nil {
		t.Fatal(err)
	}
	args := string(runs)
	if strings.Count(args, "\n") != 1 {
		t.Errorf("mmdebstrap ran more than once: %s", args)
	}
	for _, want := range []string{"--variant=minbase", "--architectures=amd64", "--mode=root",
		"--include=initramfs-tools,kmod,linux-image-amd64,lz4,udev,xz-utils,zstd bookworm /", " deb http://192.0.2.1/debian bookworm main\n"} {
		if !strings.Contains(args, want) {
			t.Errorf("%q lacks %q", args, want)
		}
	}
	noScratch(t, p.Content)
	// Not the building machine's name, where none is given.
	got, err := exec.Command("unsquashfs", "-cat", blob(t, p, txn.Outputs()[two.Addr].Artifact.Root), "etc/hostname").Output()
	if err != nil || string(got) != "localhost\n" {
		t.Errorf("host name %q, %v", got, err)
	}
}

// sleeper is a bootstrap that never ends, with a child in a session of its own.
// Their command lines name the test's folder.
const sleeper = `setsid sh -c 'while :; do sleep 1; done' "$dir" & sh -c 'while :; do sleep 1; done' "$dir" &
echo partial >"$out"; touch "$dir/started"; wait`

// running counts the processes that name a folder.
func running(t *testing.T, dir string) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range all {
		b, err := os.ReadFile(file) // empty for the dead
		if err == nil && strings.Contains(string(b), dir) {
			n++
		}
	}
	return n
}

// eventually polls for what other processes do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// asleep waits until a sleeper and its children run.
func asleep(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "the bootstrap never started", func() bool {
		_, err := os.Stat(filepath.Join(dir, "started"))
		return err == nil && running(t, dir) == 3
	})
}

// gone waits until nothing of it runs.
func gone(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "processes are left", func() bool { return running(t, dir) == 0 })
}

func TestCancelLeavesNothing(t *testing.T) {
	p := fakeProvider(t)
	dir := fakeBootstrap(t, sleeper)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	img := bootstrapImage(nil)
	go func() {
		_, err := p.Prepare(ctx, provider.Input{Want: &schema.Desired{Images: []*schema.Image{img}}, Files: fstest.MapFS{}})
		done <- err
	}()
	asleep(t, dir)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	gone(t, dir)
	noScratch(t, p.Content)
	if _, ok := p.Content.Base(img.BaseRecipe); ok {
		t.Error("half a base was recorded")
	}
	// And the next one works.
	fakeBootstrap(t, `cp `+filepath.Join(dir, "archive")+` "$out"`)
	if err := os.WriteFile(filepath.Join(dir, "archive"), makeTar(t, fakeRoot(t)...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(t, p, fstest.MapFS{}, img, nil); err != nil {
		t.Fatal(err)
	}
}

// TestKilledDaemonLeavesNoProcess runs itself as the daemon, and kills it.
func TestKilledDaemonLeavesNoProcess(t *testing.T) {
	const key = "DLRECONCILE_TEST_STATE"
	if state := os.Getenv(key); state != "" {
		c, err := store.OpenContent(state)
		if err != nil {
			t.Fatal(err)
		}
		p := newProvider(t, Config{Content: c, Program: busybox(t)})
		prepare(t, p, fstest.MapFS{}, bootstrapImage(nil), nil)
		return
	}
	providertest.NeedRoot(t)
	dir := fakeBootstrap(t, sleeper)
	state := t.TempDir()
	daemon := exec.Command(os.Args[0], "-test.run=^TestKilledDaemonLeavesNoProcess$")
	daemon.Env = append(os.Environ(), key+"="+state)
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	asleep(t, dir)
	daemon.Process.Kill()
	daemon.Wait()
	gone(t, dir)
	left, err := filepath.Glob(filepath.Join(state, "blobs", "sha256", "*", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("in the store: %q, %v", left, err)
	}
}

func TestFullDisk(t *testing.T) {
	p := fakeProvider(t)
	fakeBootstrap(t, `echo "cp: error writing: No space left on device" >&2; exit 1`)
	_, err := prepare(t, p, fstest.MapFS{}, bootstrapImage(nil), nil)
	if err == nil || !strings.Contains(err.Error(), "the disk is full: installing packages takes about 700 MiB below ") || !strings.Contains(err.Error(), "are free") {
		t.Errorf("got %v", err)
	}
	noScratch(t, p.Content)

	// A disk that is too small is refused before anything is fetched.
	small := t.TempDir()
	if err := unix.Mount("small", small, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	c, err := store.OpenContent(small)
	if err != nil {
		t.Fatal(err)
	}
	tiny := newProvider(t, Config{Content: c, Program: p.Program})
	_, err = prepare(t, tiny, fstest.MapFS{}, bootstrapImage(nil), nil)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "takes about 700 MiB") || !strings.Contains(err.Error(), " 16 MiB are free") {
		t.Errorf("got %v", err)
	}
	// And one that fills up while an archive is unpacked says so too.
	files := fstest.MapFS{}
	big := append(fakeRoot(t), entry{name: "big", body: strings.Repeat("x", 20<<20)})
	_, err = prepare(t, tiny, files, tarImage(files, makeTar(t, big...), nil), nil)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("got %v", err)
	}
	noScratch(t, c)
}

func TestSourcesOfTheMachine(t *testing.T) {
	p := newProvider(t, Config{Machine: machineFiles(map[string]string{
		"etc/apt/sources.list": "deb http://a.example/debian bookworm-updates main\ndeb http://a.example/debian bookworm main\n",
	})})
	got, err := p.sources(&schema.Debootstrap{Suite: "bookworm", Arch: "amd64", Components: []string{"main"}})
	if err != nil || len(got) != 2 || got[0].suite != "bookworm" {
		t.Errorf("%v, %v", got, err)
	}
	_, err = p.sources(&schema.Debootstrap{Suite: "trixie", Arch: "amd64", Components: []string{"main"}})
	if m, ok := err.(*mistake); !ok || m.attr != "debootstrap.suite" || !strings.Contains(m.detail, "name a mirror") {
		t.Errorf("%v", err)
	}
}
