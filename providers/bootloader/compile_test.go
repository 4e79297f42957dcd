package bootloader

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

func offerOf(t *testing.T, tab *table, host schema.Addr) *offer {
	t.Helper()
	list := tab.offers[provider.TreeKey{Host: host, Subnet: lan}]
	if len(list) == 0 {
		t.Fatalf("nothing is offered to %q", host)
	}
	return list[0]
}

func TestKernelLine(t *testing.T) {
	entry := &schema.Entry{Args: []string{"quiet", "add_efi_memmap"}}
	cow := &provider.Export{Name: "arch@3f2a9c1d7e08", Server: netip.MustParseAddrPort("10.0.0.1:10809"), Mode: schema.CopyOnWrite}
	ro := &provider.Export{Name: "arch@3f2a9c1d7e08", Server: netip.MustParseAddrPort("10.0.0.1:10810"), Mode: schema.ReadOnly}
	for name, tc := range map[string]struct {
		root *provider.Export
		url  string
		args []string
		want string
	}{
		"copy-on-write": {cow, "http://10.0.0.1", []string{"debug"},
			"initrd=initrd.img root=/dev/nbd0 nbdroot=10.0.0.1,arch@3f2a9c1d7e08,nbd0 ip=dhcp BOOTIF=01-${netX/mac:hexhyp} rw dlreconcile.url=http://10.0.0.1 panic=30 quiet add_efi_memmap debug"},
		"read-only, other ports": {ro, "http://10.0.0.1:8080", nil,
			"initrd=initrd.img root=/dev/nbd0 nbdroot=10.0.0.1:10810,arch@3f2a9c1d7e08,nbd0 ip=dhcp BOOTIF=01-${netX/mac:hexhyp} ro dlreconcile.overlay=tmpfs dlreconcile.url=http://10.0.0.1:8080 panic=30 quiet add_efi_memmap"},
		"no root, no HTTP": {nil, "", nil,
			"initrd=initrd.img ip=dhcp BOOTIF=01-${netX/mac:hexhyp} panic=30 quiet add_efi_memmap"},
	} {
		c := choice{entry: entry, words: kernelWords(entry, tc.root, rootOptions{}, tc.url, tc.args), initrds: []string{"arch/initrd.img"}}
		if got := (ipxe{}).line(nil, c, provider.MAC{}); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tc.want)
		}
		mac := provider.MAC{0x52, 0x54, 0, 0xAB, 0, 1}
		want := strings.ReplaceAll(tc.want, "${netX/mac:hexhyp}", "52-54-00-ab-00-01")
		if got := (ipxe{}).line(nil, c, mac); got != want {
			t.Errorf("%s for %s: %s", name, mac, got)
		}
	}
}

func TestCheckArg(t *testing.T) {
	for _, good := range []string{"quiet", "a=b", "--", `dyndbg="file drivers/x.c +p"`, "x=$y", "a#b", "a||b", "ö=ü"} {
		if why := checkArg(good); why != "" {
			t.Errorf("%q %s", good, why)
		}
	}
	for _, bad := range []string{"", " a", "a ", "a  b", "a\tb", "a\nb", "x=${net0/ip}", "#a", "a #b", "a || b", "&&", "a\x7f"} {
		if checkArg(bad) == "" {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestScript(t *testing.T) {
	choices := []choice{
		{entry: &schema.Entry{Meta: meta(arch, 1), Title: "Arch # Linux ${x}"}, dir: "arch", words: []string{"root=/dev/nbd0"}, initrds: []string{"arch/initrd.img"}},
		{entry: &schema.Entry{Meta: meta(rescue, 2), Title: "\n"}, dir: "rescue", words: []string{"single"}, initrds: []string{"rescue/initrd.img"}},
	}
	const tail = `:failed
inc attempt
iseq ${attempt} 5 && goto restart ||
echo dlreconcile: this did not work, trying again
sleep 3
goto ${picked}
:restart
echo dlreconcile: giving up, the machine restarts
sleep 10
reboot
`
	if d := cmp.Diff(`#!ipxe
set attempt:int32 0
set picked e1
:e1
echo dlreconcile: Arch ? Linux ?{x}
imgfree
kernel arch/vmlinuz initrd=initrd.img root=/dev/nbd0 || goto failed
initrd --name initrd.img arch/initrd.img || goto failed
boot || goto failed
`+tail, script(choices[:1], 5, schema.FallbackRestart)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(`#!ipxe
set attempt:int32 0
set picked e1
menu dlreconcile
item e1 Arch ? Linux ?{x}
item e2 rescue
choose --timeout 5000 --default e1 picked || set picked e1
goto ${picked}
:e1
echo dlreconcile: Arch ? Linux ?{x}
imgfree
kernel arch/vmlinuz initrd=initrd.img root=/dev/nbd0 || goto failed
initrd --name initrd.img arch/initrd.img || goto failed
boot || goto failed
:e2
echo dlreconcile: rescue
imgfree
kernel rescue/vmlinuz initrd=initrd.img single || goto failed
initrd --name initrd.img rescue/initrd.img || goto failed
boot || goto failed
`+tail, script(choices, 5, schema.FallbackRestart)); d != "" {
		t.Error(d)
	}
}

func TestOffers(t *testing.T) {
	b := newBench(t)
	tab := b.compiled(site())
	if len(tab.offers) != 3 { // two hosts, and everybody else
		t.Errorf("%d offers", len(tab.offers))
	}
	anyone, one, two := offerOf(t, tab, schema.Addr{}), offerOf(t, tab, ws01), offerOf(t, tab, ws02)
	if anyone.tree != one.tree || anyone.out != one.out {
		t.Error("a host without settings of its own has its own tree")
	}
	if two.tree == one.tree {
		t.Error("a host with arguments shares the tree of one without")
	}
	if len(one.choices) != 1 || one.choices[0].entry.Addr != arch {
		t.Errorf("without a timeout the choices are %+v", one.choices)
	}
	var names []string
	for _, f := range one.tree.files {
		names = append(names, f.name+" "+string(f.role))
	}
	if d := cmp.Diff([]string{
		"arch/initrd.img initrd", "arch/vmlinuz kernel", "boot.ipxe script",
		"ipxe.efi loader", "snponly.efi loader", "undionly.kpxe loader",
	}, names); d != "" {
		t.Error(d)
	}
	id := one.tree.id
	want := &provider.Tree{
		ID: id, Entry: arch, Export: "arch@" + b.art.Short(), Targets: []provider.Target{
			{Arch: provider.AnyArch, Class: "iPXE", File: "http://10.0.0.1/b/" + id + "/boot.ipxe", Comment: "script for iPXE"},
			{Arch: 7, HTTP: true, File: "http://10.0.0.1/b/" + id + "/ipxe.efi", Comment: "ipxe.efi for UEFI x86-64"},
			{Arch: 9, HTTP: true, File: "http://10.0.0.1/b/" + id + "/ipxe.efi", Comment: "ipxe.efi for UEFI byte code, said by x86-64"},
			{Arch: 16, HTTP: true, File: "http://10.0.0.1/b/" + id + "/ipxe.efi", Comment: "ipxe.efi for UEFI x86-64, HTTP"},
			{Arch: 17, HTTP: true, File: "http://10.0.0.1/b/" + id + "/ipxe.efi", Comment: "ipxe.efi for UEFI byte code, said by x86-64, HTTP"},
			{Arch: 0, File: "b/" + id + "/undionly.kpxe", Comment: "undionly.kpxe for BIOS"},
			{Arch: 20, File: "b/" + id + "/undionly.kpxe", Comment: "undionly.kpxe for BIOS, HTTP"},
			{Arch: 7, File: "b/" + id + "/snponly.efi", Comment: "snponly.efi for UEFI x86-64"},
			{Arch: 9, File: "b/" + id + "/snponly.efi", Comment: "snponly.efi for UEFI byte code, said by x86-64"},
			{Arch: 16, File: "b/" + id + "/snponly.efi", Comment: "snponly.efi for UEFI x86-64, HTTP"},
			{Arch: 17, File: "b/" + id + "/snponly.efi", Comment: "snponly.efi for UEFI byte code, said by x86-64, HTTP"},
		},
	}
	if d := cmp.Diff(want, tab.outputs[menu].Trees[provider.TreeKey{Host: ws01, Subnet: lan}]); d != "" {
		t.Error(d)
	}
	for _, target := range want.Targets {
		if len(target.File) > 127 {
			t.Errorf("%q does not fit into BOOTP's file field", target.File)
		}
	}
}

// The id of a tree depends on its files and on nothing else: not on the process,
// the time, or the generation.
func TestTreeID(t *testing.T) {
	files := func() []file {
		return []file{
			textFile("boot.ipxe", provider.AnswerScript, "#!ipxe\n"),
			blobFile("arch/vmlinuz", provider.AnswerKernel, provider.Blob{Digest: "sha256:00", Size: 7}),
		}
	}
	// printf 'arch/vmlinuz sha256:00 7\nboot.ipxe sha256:%s 7\n' $(printf '#!ipxe\n' | sha256sum) | sha256sum, in base32
	const want = "a5rgptxu4nzhxw5tj565pb5hbo"
	a := newTree(files())
	reversed := files()
	reversed[0], reversed[1] = reversed[1], reversed[0]
	if b := newTree(reversed); a.id != b.id || len(a.id) != 26 {
		t.Errorf("%s and %s", a.id, b.id)
	}
	if a.id != want {
		t.Errorf("id %s, was always %s", a.id, want)
	}
	b, c := newBench(t), newBench(t)
	if x, y := offerOf(t, b.compiled(site()), ws02).tree.id, offerOf(t, c.compiled(site()), ws02).tree.id; x != y {
		t.Errorf("the same site gives %s and %s", x, y)
	}
}

func TestOneEditedHostChangesOneTree(t *testing.T) {
	b := newBench(t)
	before := b.compiled(site())
	d := site()
	d.Hosts[1].Args = append(d.Hosts[1].Args, "more")
	after := b.compiled(d)
	for key, list := range before.offers {
		changed := after.offers[key][0].tree.id != list[0].tree.id
		if changed != (key.Host == ws02) {
			t.Errorf("%+v changed: %v", key, changed)
		}
	}
}

func TestChoices(t *testing.T) {
	b := newBench(t)
	d := site()
	d.Bootloaders[0].Timeout = 5
	d.Hosts[0].Entry = rescue
	tab := b.compiled(d)
	list := func(o *offer) (names []string) {
		for _, c := range o.choices {
			names = append(names, c.entry.Addr.Name)
		}
		return names
	}
	if d := cmp.Diff([]string{"arch", "rescue"}, list(offerOf(t, tab, schema.Addr{}))); d != "" {
		t.Error(d)
	}
	one := offerOf(t, tab, ws01)
	if d := cmp.Diff([]string{"rescue", "arch"}, list(one)); d != "" {
		t.Error(d)
	}
	if one.out.Entry != rescue || one.out.Export != "" { // rescue has no root
		t.Errorf("%+v", one.out)
	}
}

func TestWhoBootsWhat(t *testing.T) {
	b := newBench(t)
	other := addr("bootloader", "ipxe", "other")
	dmz := addr("subnet", "", "dmz")
	d := site()
	d.Bootloaders = append(d.Bootloaders, &schema.Bootloader{Meta: meta(other, 70), Entries: []schema.Addr{rescue}})
	d.Subnets = append(d.Subnets, &schema.Subnet{Meta: meta(dmz, 80), Server: mainServer, CIDR: netip.MustParsePrefix("10.9.0.0/24")})
	d.Hosts[1].Boot = []schema.Addr{other}
	got := map[string]string{}
	for key, list := range b.compiled(d).offers {
		got[key.Host.String()+" on "+key.Subnet.String()] = list[0].boot.Addr.String()
	}
	if d := cmp.Diff(map[string]string{
		" on subnet.lan":          menu.String(),
		"host.ws01 on subnet.lan": menu.String(),  // it has an address there
		"host.ws02 on subnet.lan": other.String(), // its own beats the subnet's
		"host.ws02 on subnet.dmz": other.String(), // wherever it turns up
	}, got); d != "" {
		t.Error(d)
	}
}

func TestTargetsFollowTheServer(t *testing.T) {
	b := newBench(t)
	files := func(o *offer) (list []string) {
		for _, target := range o.out.Targets {
			list = append(list, fmt.Sprint(target.Arch, " ", strings.Replace(target.File, o.tree.id, "ID", 1)))
		}
		return list
	}
	for name, tc := range map[string]struct {
		edit func(*schema.Server)
		want []string
	}{
		"no HTTP": {func(s *schema.Server) { s.HTTP.Disabled = true },
			[]string{"65535 b/ID/boot.ipxe", "0 b/ID/undionly.kpxe", "20 b/ID/undionly.kpxe", "7 b/ID/snponly.efi", "9 b/ID/snponly.efi", "16 b/ID/snponly.efi", "17 b/ID/snponly.efi"}},
		"no HTTP, other TFTP port": {func(s *schema.Server) {
			s.HTTP.Disabled, s.TFTP.Listen = true, netip.MustParseAddrPort("10.0.0.1:6969")
		}, []string{"65535 tftp://10.0.0.1:6969/b/ID/boot.ipxe", "0 b/ID/undionly.kpxe", "20 b/ID/undionly.kpxe", "7 b/ID/snponly.efi", "9 b/ID/snponly.efi", "16 b/ID/snponly.efi", "17 b/ID/snponly.efi"}},
		"no TFTP, other HTTP port": {func(s *schema.Server) {
			s.TFTP.Disabled, s.HTTP.Listen = true, netip.MustParseAddrPort("0.0.0.0:8080")
		}, []string{"65535 http://10.0.0.1:8080/b/ID/boot.ipxe", "7 http://10.0.0.1:8080/b/ID/ipxe.efi", "9 http://10.0.0.1:8080/b/ID/ipxe.efi", "16 http://10.0.0.1:8080/b/ID/ipxe.efi", "17 http://10.0.0.1:8080/b/ID/ipxe.efi"}},
	} {
		d := site()
		tc.edit(d.Servers[0])
		if d := cmp.Diff(tc.want, files(offerOf(t, b.compiled(d), ws01))); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	for _, name := range []string{undionly, fullEFI} {
		if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]string{
		"65535 http://10.0.0.1/b/ID/boot.ipxe", "7 http://10.0.0.1/b/ID/snponly.efi", "9 http://10.0.0.1/b/ID/snponly.efi", "16 http://10.0.0.1/b/ID/snponly.efi", "17 http://10.0.0.1/b/ID/snponly.efi",
		"7 b/ID/snponly.efi", "9 b/ID/snponly.efi", "16 b/ID/snponly.efi", "17 b/ID/snponly.efi",
	}, files(offerOf(t, b.compiled(site()), ws01))); d != "" {
		t.Errorf("programs missing: %s", d)
	}
}

func TestMistakes(t *testing.T) {
	b := newBench(t)
	long := make([]string, 100)
	for i := range long {
		long[i] = "an.argument.of.some.length"
	}
	for name, tc := range map[string]struct {
		edit func(*schema.Desired)
		want string
		at   string
	}{
		"long line of a host":   {func(d *schema.Desired) { d.Hosts[1].Args = long }, "host.ws02 with entry.arch would have", "site.hcl:61,1"},
		"long line of an entry": {func(d *schema.Desired) { d.Entries[0].Args = long }, "entry.arch would have", "site.hcl:13,1"},
		"bad argument":          {func(d *schema.Desired) { d.Hosts[1].Args = []string{"a=${b}"} }, `"a=${b}" of host.ws02`, "site.hcl:61,1"},
		"bad entry argument":    {func(d *schema.Desired) { d.Entries[0].Args = []string{"a\nb"} }, `of entry.arch`, "site.hcl:13,1"},
		"nothing to boot":       {func(d *schema.Desired) { d.Bootloaders[0].Entries = nil }, "lists no entries", "site.hcl:30,1"},
		"no way to fetch": {func(d *schema.Desired) { d.Servers[0].TFTP.Disabled, d.Servers[0].HTTP.Disabled = true, true },
			"both TFTP and HTTP", "site.hcl:30,1"},
		"endless menu": {func(d *schema.Desired) {
			d.Bootloaders[0].Timeout = 3
			for i := range 1000 {
				e := *d.Entries[1]
				e.Addr.Key = fmt.Sprint(i)
				d.Entries = append(d.Entries, &e)
				d.Bootloaders[0].Entries = append(d.Bootloaders[0].Entries, e.Addr)
			}
		}, "would have", "site.hcl:31,1"},
	} {
		d := site()
		tc.edit(d)
		_, err := b.compile(d)
		var diags hcl.Diagnostics
		if !errors.As(err, &diags) || len(diags) != 1 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s := diags[0].Subject; s == nil || fmt.Sprintf("%s:%d,%d", s.Filename, s.Start.Line, s.Start.Column) != tc.at {
			t.Errorf("%s: at %v, want %s", name, s, tc.at)
		}
		if !strings.Contains(diags[0].Detail, tc.want) {
			t.Errorf("%s: %s", name, diags[0].Detail)
		}
	}
}

// A kernel hands the words it does not know to init, and panicked over the 31st.
func TestTooManyWordsPanickedTheKernel(t *testing.T) {
	words := func(format string, n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf(format, i))
		}
		return list
	}
	for name, tc := range map[string]struct {
		entry, host []string
		want, at    string // "": allowed
	}{
		"22 and six of ours":     {nil, words("k%d=v", 22), "", ""},
		"23 of a host":           {nil, words("k%d=v", 23), "host.ws02 with entry.arch would have 29 words", "site.hcl:61,1"},
		"23 of an entry":         {words("k%d=v.w", 23), nil, "entry.arch would have 29 words", "site.hcl:13,1"},
		"12 of each":             {words("e%d=v", 12), words("h%d=v", 12), "host.ws02 with entry.arch would have 30 words", "site.hcl:61,1"},
		"for modules":            {words("m.k%d=v", 40), words("quiet%d", 20), "", ""},
		"inside one quoted word": {nil, []string{`k="` + strings.Join(words("k%d=v", 40), " ") + `"`}, "", ""},
	} {
		b, d := newBench(t), site()
		d.Entries[0].Args, d.Hosts[1].Args = tc.entry, tc.host
		_, err := b.compile(d)
		var diags hcl.Diagnostics
		if errors.As(err, &diags); tc.want == "" && err == nil {
			continue
		}
		if tc.want == "" || len(diags) != 1 || !strings.Contains(diags[0].Detail, "of "+tc.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s := diags[0].Subject; fmt.Sprintf("%s:%d,%d", s.Filename, s.Start.Line, s.Start.Column) != tc.at {
			t.Errorf("%s: at %v, want %s", name, s, tc.at)
		}
	}
}

func TestKernelAndRootOfTwoImagesAreRefused(t *testing.T) {
	b := newBench(t)
	in := b.input(site())
	in.Built[archExport].Export.Artifact = b.artifact("two")
	_, err := compile(t.Context(), in, b.loaders, nil)
	var diags hcl.Diagnostics
	if !errors.As(err, &diags) || !strings.Contains(diags[0].Detail, "6.1.0-one") || !strings.Contains(diags[0].Detail, "6.1.0-two") {
		t.Error(err)
	}
}

func TestTenThousandHostsAreCheap(t *testing.T) {
	b := newBench(t)
	d := site()
	d.Hosts = nil
	for i := range 10_000 {
		a := addr("host", "", "ws")
		a.Key = fmt.Sprint(i)
		h := &schema.Host{Meta: meta(a, 100), MAC: fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16, i>>8&255, i&255), Subnet: lan}
		if i%100 == 0 {
			h.Args = []string{fmt.Sprintf("seat=%d", i)}
		}
		d.Hosts = append(d.Hosts, h)
	}
	start := time.Now()
	tab := b.compiled(d)
	t.Logf("compiled in %v", time.Since(start))
	if len(tab.trees) != 101 {
		t.Errorf("%d trees, want one for all and 100 with arguments of their own", len(tab.trees))
	}
	if len(tab.outputs[menu].Trees) != 10_001 {
		t.Errorf("%d machines", len(tab.outputs[menu].Trees))
	}
	start = time.Now()
	for _, h := range d.Hosts {
		mac, _ := provider.ParseMAC(h.MAC)
		if len(tab.answer(provider.Query{MAC: mac})) != 4 {
			t.Fatalf("%s: %+v", h.Addr, tab.answer(provider.Query{MAC: mac}))
		}
	}
	t.Logf("10,000 answers in %v", time.Since(start))
}

// Ten thousand machines, each with arguments and a name of its own, are compiled in
// about a second and take less than 100 MB.
func TestTenThousandMachinesOfTheirOwn(t *testing.T) {
	b := newBench(t)
	b.art.Settles = true
	d := site()
	d.Hosts = nil
	for i := range 10_000 {
		a := addr("host", "", "ws")
		a.Key = fmt.Sprint(i)
		d.Hosts = append(d.Hosts, &schema.Host{
			Meta: meta(a, 100), MAC: fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16, i>>8&255, i&255), Subnet: lan,
			Hostname: fmt.Sprintf("ws%04d", i), Args: []string{fmt.Sprintf("seat=%d", i)},
		})
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	start := time.Now()
	tab := b.compiled(d)
	took := time.Since(start)
	grown := heap() - before
	t.Logf("compiled in %v, %d MB", took, grown>>20)
	if grown > 100<<20 || took > 10*time.Second { // a loaded machine
		t.Errorf("compiled in %v, %d MB", took, grown>>20)
	}
	if len(tab.trees) != 10_001 {
		t.Errorf("%d trees", len(tab.trees))
	}
	start = time.Now()
	for _, h := range d.Hosts {
		mac, _ := provider.ParseMAC(h.MAC)
		if a := tab.answer(provider.Query{MAC: mac}); len(a) != 5 || a[4].Range != at(100) {
			t.Fatalf("%s: %+v", h.Addr, a)
		}
	}
	t.Logf("10,000 answers in %v", time.Since(start))
	cache := b.blobs
	if err := tab.openBlobs(cache); err != nil {
		t.Fatal(err)
	}
	if n := cache.Open(); n != 5 { // kernel, initrd, three programs
		t.Errorf("%d files open", n)
	}
	tab.release()
}

func TestDirOf(t *testing.T) {
	seen := map[string]string{}
	for _, key := range []string{"", "a", "b c", "b/c", "../../x", strings.Repeat("k", 41), "ü"} {
		a := arch
		a.Key = key
		dir := dirOf(a)
		if strings.ContainsAny(dir, "/ ") || dir == "" {
			t.Errorf("%q: %q", key, dir)
		}
		if was, ok := seen[dir]; ok {
			t.Errorf("%q and %q share %q", was, key, dir)
		}
		seen[dir] = key
	}
}

func BenchmarkAnswer(b *testing.B) {
	tab := newBench(b).compiled(site())
	q := provider.Query{MAC: mac02, Host: ws02, Subnet: lan}
	for b.Loop() {
		tab.answer(q)
	}
}
