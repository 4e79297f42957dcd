package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/providers/export"
	"github.com/dlreconcile/dlreconcile/schema"
)

// overlaySite is what the server of TestOverlaysOutliveServer serves, for a process that
// serves it: in the environment.
type overlaySite struct {
	State       string
	Addr        netip.AddrPort
	Ext4, Btrfs provider.Blob
}

const overlaySiteEnv = "DLRECONCILE_TEST_OVERLAYS"

// guestIs is the machine behind every address.
type guestIs struct{}

func (guestIs) ByAddr(netip.Addr) (provider.Client, bool) {
	return provider.Client{MAC: provider.MAC{0x52, 0x54, 0, 0, 0, 1}, Host: schema.Addr{Kind: "host", Name: "guest"}}, true
}

// input is the generation.
func (s overlaySite) input() provider.Input {
	server := schema.Addr{Kind: "server", Name: "main"}
	in := provider.Input{Generation: 1, Built: map[schema.Addr]provider.Output{}, Want: &schema.Desired{
		Servers: []*schema.Server{{Meta: schema.Meta{Addr: server}, Address: s.Addr.Addr(), NBD: schema.Listener{Listen: s.Addr}}},
		Hosts:   []*schema.Host{{Meta: schema.Meta{Addr: schema.Addr{Kind: "host", Name: "guest"}}, MAC: "52:54:00:00:00:01"}},
	}}
	for name, e := range map[string]schema.Export{
		"boot":    {Mode: schema.CopyOnWrite, Keep: schema.KeepBoot},
		"host":    {Mode: schema.CopyOnWrite, Keep: schema.KeepHost},
		"copy":    {Mode: schema.ReadWrite, Allow: []schema.Addr{{Kind: "host", Name: "guest"}}},
		"limited": {Mode: schema.CopyOnWrite, Keep: schema.KeepBoot, Limit: 2 << 20},
	} {
		a := provider.Artifact{Recipe: "sha256:" + name, Root: s.Ext4, Filesystem: "ext4"}
		if name == "host" {
			a.Root, a.Filesystem = s.Btrfs, "btrfs"
		}
		image := schema.Addr{Kind: "image", Name: name}
		in.Built[image] = provider.Output{Artifact: &a}
		in.Want.Images = append(in.Want.Images, &schema.Image{Meta: schema.Meta{Addr: image}})
		e.Addr, e.Server, e.Image = schema.Addr{Kind: "export", Type: schema.NBD, Name: name}, server, image
		in.Want.Exports = append(in.Want.Exports, &e)
	}
	return in
}

// serve serves until ctx ends.
func (s overlaySite) serve(ctx context.Context, ready func(*export.Provider)) error {
	content, err := store.OpenContent(s.State)
	if err != nil {
		return err
	}
	p, err := export.New(export.Config{Content: content, Dir: filepath.Join(s.State, "overlays"), Clients: guestIs{}})
	if err != nil {
		return err
	}
	x, err := p.Prepare(ctx, s.input())
	if err != nil {
		return err
	}
	x.Commit()
	ready(p)
	return p.Run(ctx)
}

// TestServeOverlays is the server of TestOverlaysOutliveServer, in a process that can be
// killed.
func TestServeOverlays(t *testing.T) {
	text := os.Getenv(overlaySiteEnv)
	if text == "" {
		return // it is no test by itself
	}
	var s overlaySite
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if err := s.serve(t.Context(), func(*export.Provider) { fmt.Println("serving") }); err != nil {
		t.Fatal(err)
	}
}

// start runs the server in a process of its own, and waits until it serves.
func (s overlaySite) start(t *testing.T) (cmd *exec.Cmd, wait func() error) {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0], "-test.run=^TestServeOverlays$")
	cmd.Env = append(os.Environ(), overlaySiteEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if wait, err = providertest.Start(cmd); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "serving" {
			return cmd, wait
		}
	}
	t.Fatal("the server does not serve")
	return nil, nil
}

// sealImage makes a file system and puts it into the store.
func sealImage(t *testing.T, state string, size int64, program string, args ...string) provider.Blob {
	t.Helper()
	content, err := store.OpenContent(state)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, append(args, path)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blob, err := content.Put(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// TestOverlaysOutliveServer boots Debian's kernel in QEMU on our NBD server: ext4 and
// btrfs with lzo, on an overlay of one boot, one of the host, and a working copy. The
// server is killed with -9 again and again while everything is synced. Nothing that
// was synced is lost, a disk past its limit disturbs no other, and what nbdcopy takes
// off the server at the end passes e2fsck and btrfs check.
func TestOverlaysOutliveServer(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	providertest.Need(t, "qemu-system-x86_64", "mke2fs", "e2fsck", "mkfs.btrfs", "btrfs", "nbdcopy", "busybox", "cpio")
	kernel := cloudKernel(t)
	s := overlaySite{State: t.TempDir(), Addr: freeAddr(t)}
	s.Ext4 = sealImage(t, s.State, 64<<20, "mke2fs", "-q", "-t", "ext4")
	s.Btrfs = sealImage(t, s.State, 128<<20, "mkfs.btrfs", "-q", "--mixed")
	script := strings.NewReplacer("@PORT@", fmt.Sprint(s.Addr.Port()),
		"@EXT4@", provider.ShortDigest(s.Ext4.Digest), "@BTRFS@", provider.ShortDigest(s.Btrfs.Digest)).Replace(string(read(t, "testdata/overlays.sh")))
	initrd := makeInitrd(t, kernel, script, "virtio_pci", "virtio_net", "nbd", "crc32c-intel", "xxhash_generic", "blake2b_generic", "btrfs")

	server, wait := s.start(t)
	stop := func() {
		server.Process.Kill()
		wait()
	}
	defer func() { stop() }()
	console := startGuest(t, kernel, initrd, 4*time.Minute)
	var text strings.Builder
	said := map[string]string{}
	for lines := bufio.NewScanner(console); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		fmt.Fprintln(&text, line)
		switch line {
		case "WROTE 3", "WROTE 7":
			stop()
			server, wait = s.start(t)
		case "WROTE 9": // twice in a row
			stop()
			server, wait = s.start(t)
			stop()
			server, wait = s.start(t)
		}
		if key, value, ok := strings.Cut(line, " "); ok && said["RESULT"] == "" {
			said[key] = value
		}
	}
	for key, want := range map[string]string{
		"SUMS_boot": "12", "SUMS_host": "12", "SUMS_copy": "12", "LIMIT": "32", "HELD": "yes", "BESIDE": "yes", "ERRORS": "0", "RESULT": "done",
	} {
		if said[key] != want {
			t.Errorf("%s: got %q, want %q", key, said[key], want)
		}
	}
	if t.Failed() || testing.Verbose() {
		t.Log(text.String())
	}
	stop()
	s.checkDisks(t)
}

// checkDisks takes each disk off a server that was started anew, as its machine would
// see it, and has the file system's own program look at it.
func (s overlaySite) checkDisks(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan *export.Provider, 1), make(chan error, 1)
	go func() { done <- s.serve(ctx, func(p *export.Provider) { ready <- p }) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	p := <-ready
	checked := 0
	for _, o := range p.Overlays(provider.OverlayQuery{}) {
		boot := o.Boot
		file := filepath.Join(t.TempDir(), o.Family())
		if out, err := exec.Command("nbdcopy", fmt.Sprintf("nbd://%s/%s+%s", s.Addr, o.Export, boot), file).CombinedOutput(); err != nil {
			t.Errorf("nbdcopy of %s: %v: %s", o.Export, err, out)
			continue
		}
		check := []string{"e2fsck", "-fn", file}
		switch o.Family() {
		case "host":
			check = []string{"btrfs", "check", "--check-data-csum", file}
		case "limited": // was overwritten
			if o.Bytes > 2<<20+64<<10 {
				t.Errorf("%d bytes are held", o.Bytes)
			}
			continue
		}
		if out, err := exec.Command(check[0], check[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s of %s: %v: %s", check[0], o.Export, err, out)
		}
		checked++
	}
	if checked != 3 {
		t.Errorf("%d disks were checked", checked)
	}
}
