package bootloader

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// settledSite has a group and settings on all levels.
func settledSite() *schema.Desired {
	d := site()
	lab := addr("group", "", "lab")
	d.Groups = []*schema.Group{{Meta: meta(lab, 70, "args"), Args: []string{"of.group=1"}, Settings: schema.Settings{
		Mounts: []schema.Mount{{Range: at(71), Path: "/", Options: []string{"defaults", "noatime", "rw", "compress=lzo"}}},
		Files:  []*schema.HostFile{{Range: at(72), Path: "/etc/motd", Content: "group", Permissions: 0o644}},
	}}}
	d.Entries[0].Mounts = []schema.Mount{{Range: at(15), Path: "/var/log", Type: "tmpfs", Device: "tmpfs", Options: []string{"nodev", "nosuid"}}}
	d.Entries[0].States = []schema.State{{Range: at(16), Path: "/var/lib/puppet", Per: "host"}}
	d.Hosts[0].Group, d.Hosts[0].Hostname = lab, "ws01"
	d.Hosts[1].Hostname = "ws02"
	d.Hosts[1].Files = []*schema.HostFile{{Range: at(63), Path: "/etc/motd", Content: "own\x00\n", Permissions: 0o600, Owner: 1, Group: 2}}
	return d
}

// settingsOf unpacks the generated initrd of an offer's first choice with cpio, and
// gives its bytes too.
func settingsOf(t *testing.T, o *offer) (map[string]any, string) {
	t.Helper()
	f := o.tree.file("arch/" + machineName)
	if f == nil {
		t.Fatal("no generated initrd")
	}
	image := f.bytes()
	if digest([]byte(image)) != f.digest || int64(len(image)) != f.size || len(image)%4 != 0 {
		t.Errorf("%d bytes, digest %s; the tree says %d, %s", len(image), digest([]byte(image)), f.size, f.digest)
	}
	dir := t.TempDir()
	list := exec.Command("cpio", "-itv", "--numeric-uid-gid")
	list.Stdin = strings.NewReader(image)
	if out, err := list.Output(); err != nil || !strings.HasPrefix(string(out), "-rw-------   1 0        0 ") ||
		!strings.HasSuffix(string(out), " Jan  1  1970 dlreconcile.json\n") {
		t.Errorf("cpio: %v\n%s", err, out)
	}
	unpack := exec.Command("cpio", "-i")
	unpack.Dir, unpack.Stdin = dir, strings.NewReader(image)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(dir, "dlreconcile.json"))), &got); err != nil {
		t.Fatal(err)
	}
	return got, image
}

func TestGeneratedInitrd(t *testing.T) {
	providertest.Need(t, "cpio")
	b := newBench(t)
	b.art.Settles = true
	tab := b.compiled(settledSite())
	anyone, one, two := offerOf(t, tab, schema.Addr{}), offerOf(t, tab, ws01), offerOf(t, tab, ws02)

	mounts := []any{map[string]any{"path": "/var/log", "type": "tmpfs", "device": "tmpfs", "options": []any{"nodev", "nosuid"}}}
	state := func(key string) []any { return []any{map[string]any{"path": "/var/lib/puppet", "key": key}} }
	for name, tc := range map[string]struct {
		o    *offer
		want map[string]any
		due  schema.Range
	}{
		"a machine without a host block": {anyone, map[string]any{
			"version": 1., "mounts": mounts, "state": []any{map[string]any{"path": "/var/lib/puppet"}},
		}, at(15)},
		"one with a group": {one, map[string]any{
			"version": 1., "hostname": "ws01", "mounts": mounts, "state": state("ws01"),
			"files": []any{map[string]any{"path": "/etc/motd", "content": "Z3JvdXA=", "mode": 420., "owner": 0., "group": 0.}},
		}, at(50)},
		"one with a file": {two, map[string]any{
			"version": 1., "hostname": "ws02", "mounts": mounts, "state": state("ws02"),
			"files": []any{map[string]any{"path": "/etc/motd", "content": "b3duAAo=", "mode": 384., "owner": 1., "group": 2.}},
		}, at(60)},
	} {
		got, _ := settingsOf(t, tc.o)
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if want := []string{"arch/initrd.img", "arch/machine.img"}; !slices.Equal(tc.o.choices[0].initrds, want) || tc.o.choices[0].settled != tc.due {
			t.Errorf("%s: initrds %v due to %v", name, tc.o.choices[0].initrds, tc.o.choices[0].settled)
		}
	}
	// The options of "/" ride the kernel line, and nothing of "/" the initrd.
	line := ipxe{}.line(one, one.choices[0], mac02)
	if !strings.HasPrefix(line, "initrd=initrd.img initrd=machine.img root=") || !strings.Contains(line, " rw rootflags=noatime,compress=lzo dlreconcile.url=") ||
		!strings.HasSuffix(line, " quiet of.group=1") {
		t.Error(line)
	}
	if strings.Contains(ipxe{}.line(two, two.choices[0], mac02), "rootflags") {
		t.Error("a machine outside the group has its root options")
	}
	script := one.tree.file(scriptName).text
	if !strings.Contains(script, "\ninitrd --name initrd.img arch/initrd.img || goto failed\ninitrd --name machine.img arch/machine.img || goto failed\nboot") {
		t.Error(script)
	}
	// What is served is that, and what is explained; it is there in both generations.
	answers := tab.answer(provider.Query{Host: ws02, Class: classIPXE})
	last := answers[len(answers)-1]
	if last.Kind != provider.AnswerInitrd || last.Name != two.tree.path("arch/machine.img") || last.Range != at(60) || last.Digest == "" {
		t.Errorf("%+v", last)
	}
	of := tab.open(two.tree.id, "arch/machine.img")
	p := make([]byte, of.Size())
	if n, _ := of.ReadAt(p, 0); n != len(p) || digest(p) != last.Digest || of.OSFile() != nil {
		t.Error("what is served is something else than what is explained")
	}
	of.Release()
	// The same site, the same bytes.
	c := newBench(t)
	c.art.Settles = true
	if again := offerOf(t, c.compiled(settledSite()), ws02); again.tree.id != two.tree.id {
		t.Error("compiled again, it has another tree")
	}
}

// A host that says nothing about itself needs no generated initrd where the image
// would not read it, and shares its tree with others.
func TestNothingToSay(t *testing.T) {
	b := newBench(t)
	d := site()
	d.Hosts[0].Hostname = "ws01"
	tab := b.compiled(d)
	if one := offerOf(t, tab, ws01); one != offerOf(t, tab, schema.Addr{}) || one.tree.file("arch/machine.img") != nil {
		t.Error("a name makes a tree where nothing reads it")
	}
	b.art.Settles = true
	tab = b.compiled(d)
	if anyone := offerOf(t, tab, schema.Addr{}); anyone.tree.file("arch/machine.img") != nil || len(anyone.choices[0].initrds) != 1 {
		t.Error("machines without a host block and without settings have a generated initrd")
	}
	if got, _ := settingsOf(t, offerOf(t, tab, ws01)); len(got) != 2 || got["hostname"] != "ws01" {
		t.Errorf("%v", got)
	}
	// Each choice of a menu has its own.
	d.Bootloaders[0].Timeout = 5
	one := offerOf(t, b.compiled(d), ws01)
	for _, dir := range []string{"arch", "rescue"} {
		if one.tree.file(dir+"/machine.img") == nil {
			t.Errorf("%s has none", dir)
		}
	}
}

// Machines that differ in nothing but a name or a setting have trees of their own.
func TestSettingsMakeOffersOfTheirOwn(t *testing.T) {
	b := newBench(t)
	for name, edit := range map[string]func(*schema.Desired){
		"a name": func(d *schema.Desired) { d.Hosts[1].Hostname = "other"; b.art.Settles = true },
		"a file": func(d *schema.Desired) { d.Hosts[1].Files = []*schema.HostFile{{Path: "/a"}}; b.art.Settles = true },
		"a root option": func(d *schema.Desired) {
			d.Hosts[1].Mounts = []schema.Mount{{Path: "/", Options: []string{"ro"}}}
			b.art.Settles = false
		},
	} {
		d := site()
		d.Hosts[1].Args = nil
		edit(d)
		tab := b.compiled(d)
		if offerOf(t, tab, ws01).tree == offerOf(t, tab, ws02).tree {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func TestRootOptions(t *testing.T) {
	b := newBench(t)
	for name, tc := range map[string]struct {
		mount schema.Mount
		mode  schema.ExportMode
		want  string // in the kernel line; of the mistake when fails
		fails bool
	}{
		"none":              {schema.Mount{}, schema.CopyOnWrite, " rw dlreconcile.url", false},
		"what is so anyway": {schema.Mount{Type: "ext4", Options: []string{"rw", "defaults"}}, schema.CopyOnWrite, " rw dlreconcile.url", false},
		"read-only":         {schema.Mount{Options: []string{"ro"}}, schema.CopyOnWrite, " ro dlreconcile.url", false},
		"below an overlay":  {schema.Mount{Options: []string{"noatime", "ro"}}, schema.ReadOnly, " ro dlreconcile.overlay=tmpfs rootflags=noatime dlreconcile.url", false},
		"another type":      {schema.Mount{Type: "btrfs"}, schema.CopyOnWrite, "The root of entry.arch is ext4", true},
		"a space":           {schema.Mount{Options: []string{"a b"}}, schema.CopyOnWrite, `"a b" of the mount block for "/" holds a space`, true},
		"a variable":        {schema.Mount{Options: []string{"a=${b}"}}, schema.CopyOnWrite, `which the boot loader would replace`, true},
	} {
		d := site()
		tc.mount.Path, tc.mount.Range = "/", at(14)
		d.Entries[0].Mounts = []schema.Mount{tc.mount}
		in := b.input(d)
		in.Built[archExport].Export.Mode = tc.mode
		tab, err := compile(t.Context(), in, b.loaders, nil)
		if tc.fails {
			refused(t, name, err, tc.want, at(14))
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if o := offerOf(t, tab, ws01); !strings.Contains(o.family.line(o, o.choices[0], mac02), tc.want) {
			t.Errorf("%s: %s", name, o.family.line(o, o.choices[0], mac02))
		}
	}
	d := site()
	d.Hosts[0].Entry, d.Hosts[0].Mounts = rescue, []schema.Mount{{Range: at(51), Path: "/"}}
	_, err := b.compile(d)
	refused(t, "no root", err, "entry.rescue names no root", at(51))
}

// refused checks that err is one diagnostic with that text and place.
func refused(t *testing.T, name string, err error, want string, r schema.Range) {
	t.Helper()
	var diags hcl.Diagnostics
	if !errors.As(err, &diags) || len(diags) != 1 || !strings.Contains(diags[0].Detail, want) {
		t.Errorf("%s: %v", name, err)
		return
	}
	if s := diags[0].Subject; s == nil || *s != *new(r.HCL()) {
		t.Errorf("%s: at %v, want %v", name, s, r)
	}
}

// Settings that nothing in the image would read are refused, where they are written.
func TestSettingsNeedAnImageThatReadsThem(t *testing.T) {
	b := newBench(t)
	for name, tc := range map[string]struct {
		edit func(*schema.Desired)
		at   schema.Range
	}{
		"mount of an entry": {func(d *schema.Desired) { d.Entries[0].Mounts = []schema.Mount{{Range: at(15), Path: "/srv"}} }, at(15)},
		"file of a host":    {func(d *schema.Desired) { d.Hosts[1].Files = []*schema.HostFile{{Range: at(63), Path: "/a"}} }, at(63)},
		"state of a host":   {func(d *schema.Desired) { d.Hosts[0].States = []schema.State{{Range: at(53), Path: "/a"}} }, at(53)},
	} {
		d := site()
		tc.edit(d)
		_, err := b.compile(d)
		refused(t, name, err, "image.arch, which entry.arch boots", tc.at)
	}
}

// What cpio itself writes for the same file is the same archive, up to its padding to
// whole blocks.
func TestArchiveIsAsCpioWritesIt(t *testing.T) {
	providertest.Need(t, "cpio", "touch")
	for _, content := range []string{"", "a", "ab", "abc", "abcd", strings.Repeat("x", 1000)} {
		got := initramfsOf("name", content)
		dir := t.TempDir()
		sh := exec.Command("sh", "-ec", "umask 077; cat > name; touch -d @0 name; echo name | cpio -o -H newc -R 0:0 --renumber-inodes --ignore-devno --quiet")
		sh.Dir, sh.Stdin = dir, strings.NewReader(content)
		want, err := sh.Output()
		if err != nil {
			t.Fatal(err)
		}
		want = bytes.TrimRight(want, "\x00")
		if trimmed := bytes.TrimRight([]byte(got), "\x00"); !bytes.Equal(trimmed, want) || len(got)%4 != 0 || len(got)-len(trimmed) > 4 {
			t.Errorf("content of %d bytes:\n got %q\nwant %q", len(content), trimmed, want)
		}
	}
}

func FuzzInitramfs(f *testing.F) {
	f.Add("ws01", "/etc/motd", []byte("hello"))
	f.Add("", "", []byte{})
	f.Fuzz(func(t *testing.T, hostname, path string, content []byte) {
		image := settingsImage(hostname, hostname, nil, schema.Settings{Files: []*schema.HostFile{{Path: path, Content: string(content)}}})
		if len(image)%4 != 0 || !strings.HasPrefix(image, "070701") {
			t.Fatal("not an archive")
		}
		var size, name int
		if _, err := fmt.Sscanf(image[6+8*6:6+8*7], "%X", &size); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(image[6+8*11:6+8*12], "%X", &name); err != nil {
			t.Fatal(err)
		}
		start := (110 + name + 3) &^ 3
		var s settings
		if err := json.Unmarshal([]byte(image[start:start+size]), &s); err != nil {
			t.Fatal(err)
		}
		if len(s.Files) != 1 || !bytes.Equal(s.Files[0].Content, content) {
			t.Fatalf("%+v", s)
		}
	})
}

// All who have a generated initrd open share one copy of it, and none is left behind.
func TestGeneratedInitrdIsMadeOnce(t *testing.T) {
	var made atomic.Int64
	f := textFile("arch/"+machineName, provider.AnswerInitrd, "content")
	f.text, f.made = "", &generated{make: func() string { made.Add(1); return strings.Clone("content") }}
	tab := &table{}
	tr := newTree([]file{f})
	for round := range int64(2) {
		var open [100]*openFile
		var wg sync.WaitGroup
		for i := range open {
			wg.Go(func() { open[i] = tab.hold(tr, tr.file(f.name)) })
		}
		wg.Wait()
		if n := made.Load(); n != round+1 {
			t.Errorf("made %d times", n)
		}
		for _, of := range open {
			if unsafe.StringData(of.bytes) != unsafe.StringData(open[0].bytes) || of.bytes != "content" {
				t.Errorf("a copy of its own: %q", of.bytes)
			}
			of.Release()
		}
		if g := tr.file(f.name).made; g.open != 0 || g.bytes != "" {
			t.Errorf("%d have it open, with %q", g.open, g.bytes)
		}
	}
	if !slow(tr.path(f.name)) || slow(tr.path("arch/vmlinuz")) || !slow("boot.ipxe") {
		t.Error("a generated initrd is made by the goroutine that reads requests, or a kernel is not opened by it")
	}
}
