package bootloader

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// grubSite is the site with GRUB. Core images are at hand, so that no test but those
// about their making needs the tool; what is in them does not matter to the others.
func (b *bench) grubSite() *schema.Desired {
	d := site()
	boot := d.Bootloaders[0]
	boot.Addr = addr("bootloader", schema.GRUB, "menu")
	boot.Attrs["secure_boot"], boot.Attrs["protocol"] = at(33), at(34)
	d.Subnets[0].Boot = []schema.Addr{boot.Addr}
	b.art.Loaders = map[string]provider.Blob{
		provider.LoaderShim:       b.put("shim"),
		provider.LoaderSignedGRUB: b.put("signed GRUB"),
	}
	for _, p := range grubPlatforms() {
		modules := b.put("modules of " + string(p.platform))
		b.art.Loaders[provider.LoaderGRUBPrefix+string(p.platform)] = modules
		b.loaders.made[p.core+"@"+provider.ShortDigest(modules.Digest)] = b.put("core of " + string(p.platform))
	}
	return d
}

// fetches gives what a machine asks for, one line each.
func fetches(list []provider.Answer, tree string) []string {
	var out []string
	for _, a := range list {
		s := string(a.Kind) + " " + a.Protocol + " " + strings.Replace(a.Name, tree, "<tree>", 1)
		switch {
		case a.Fail != "":
			s += ": " + a.Fail
		case a.Absent:
			s += ", absent"
		case a.Digest == "":
			s += ", of no digest"
		}
		out = append(out, s)
	}
	return out
}

// The orders are those of captures of GRUB 2.06 and shim 16.1 of Debian 12.
func TestGRUBFetches(t *testing.T) {
	const own = "grub.cfg-01-52-54-00-00-00-01"
	kernel := []string{"kernel tftp <tree>/arch/vmlinuz", "initrd tftp <tree>/arch/initrd.img"}
	rest := func(first ...string) []string { return append(first, kernel...) }
	signed := []string{
		"loader tftp grub/x86_64-efi/command.lst, absent", "loader tftp grub/x86_64-efi/fs.lst, absent",
		"loader tftp grub/x86_64-efi/crypto.lst, absent", "loader tftp grub/x86_64-efi/terminal.lst, absent",
		"script tftp grub/grub.cfg", "script tftp grub/" + own, "script tftp <tree>/grub.cfg",
	}
	shim := func(folder string) []string {
		return slices.Concat([]string{
			"loader tftp " + folder + "shimx64.efi", "loader tftp " + folder + "revocations_sku.efi, absent",
			"loader tftp " + folder + "revocations_sbat.efi, absent", "loader tftp " + folder + "shim_certificate_0.efi, absent",
			"loader tftp " + folder + "grubx64.efi",
		}, signed, kernel)
	}
	b := newBench(t)
	for name, tc := range map[string]struct {
		q        provider.Query
		secure   bool
		protocol schema.Protocol
		want     []string
	}{
		"BIOS":                  {q: provider.Query{Arch: 0}, want: rest("loader tftp <tree>/core.0", "script tftp <tree>/"+own)},
		"UEFI":                  {q: provider.Query{Arch: 7}, want: rest("loader tftp <tree>/core.efi", "script tftp <tree>/"+own)},
		"UEFI that says 9":      {q: provider.Query{Arch: 9}, want: rest("loader tftp <tree>/core.efi", "script tftp <tree>/"+own)},
		"UEFI, 32 bits":         {q: provider.Query{Arch: 6}, want: rest("loader tftp <tree>/core-i386-efi.efi", "script tftp <tree>/"+own)},
		"HTTP boot":             {q: provider.Query{Arch: 16, Vendor: vendorHTTP}, want: rest("loader http <tree>/core.efi", "script http <tree>/"+own)},
		"HTTP boot that says 7": {q: provider.Query{Arch: 7, Vendor: vendorHTTP}, want: rest("loader http <tree>/core.efi", "script http <tree>/"+own)},
		"protocol = http": {q: provider.Query{Arch: 7}, protocol: schema.HTTP, want: []string{
			"loader tftp <tree>/core.efi", "script tftp <tree>/" + own, "kernel http <tree>/arch/vmlinuz", "initrd http <tree>/arch/initrd.img"}},
		"iPXE in the ROM": {q: provider.Query{Arch: 0, Class: classIPXE}, want: rest("loader tftp <tree>/core.0", "script tftp <tree>/"+own)},

		"named core.0":         {q: provider.Query{File: "core.0"}, want: rest("loader tftp core.0", "script tftp "+own, "script tftp <tree>/grub.cfg")},
		"named as by mknetdir": {q: provider.Query{File: "/grub/i386-pc/core.0"}, want: rest("loader tftp grub/i386-pc/core.0", "script tftp grub/"+own, "script tftp <tree>/grub.cfg")},
		"named for UEFI":       {q: provider.Query{File: "a/grub/x86_64-efi/core.efi"}, want: rest("loader tftp a/grub/x86_64-efi/core.efi", "script tftp a/grub/"+own, "script tftp <tree>/grub.cfg")},
		"named by URL":         {q: provider.Query{Arch: 16, Vendor: vendorHTTP, File: "http://10.0.0.1/grub/x86_64-efi/core.efi"}, want: rest("loader http grub/x86_64-efi/core.efi", "script http grub/"+own, "script tftp <tree>/grub.cfg")},

		"Secure Boot":               {q: provider.Query{Arch: 7}, secure: true, want: shim("<tree>/")},
		"BIOS beside Secure Boot":   {q: provider.Query{Arch: 0}, secure: true, want: rest("loader tftp <tree>/core.0", "script tftp <tree>/"+own)},
		"shim named":                {q: provider.Query{File: "efi/shimx64.efi"}, secure: true, want: shim("efi/")},
		"signed GRUB named":         {q: provider.Query{File: "grubx64.efi"}, secure: true, want: slices.Concat([]string{"loader tftp grubx64.efi"}, signed, kernel)},
		"HTTP beside Secure Boot":   {q: provider.Query{Arch: 16, Vendor: vendorHTTP}, secure: true, want: []string{"loader http : bootloader.grub.menu has no program for client architecture 16 (UEFI x86-64, HTTP) by HTTP boot"}},
		"BIOS's program by HTTP":    {q: provider.Query{Arch: 20, Vendor: vendorHTTP}, want: []string{"loader http : bootloader.grub.menu has no program for client architecture 20 (BIOS, HTTP) by HTTP boot"}},
		"core.efi of Secure Boot":   {q: provider.Query{File: "core.efi"}, secure: true, want: []string{"loader tftp core.efi: the file is not served here"}},
		"the machine cannot run it": {q: provider.Query{Arch: 11}, want: []string{"loader tftp : client architecture 11 (UEFI ARM, 64 bits) cannot run the kernel of image.arch, which is for amd64"}},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			d := b.grubSite()
			d.Bootloaders[0].SecureBoot, d.Bootloaders[0].Protocol = tc.secure, tc.protocol
			b.art.Signed = true
			tab := b.compiled(d)
			tc.q.Host, tc.q.MAC = ws01, provider.MAC{0x52, 0x54, 0, 0, 0, 1}
			tree := root + tab.offers[provider.TreeKey{Subnet: lan, Host: ws01}][0].tree.id
			if d := cmp.Diff(tc.want, fetches(tab.answer(tc.q), tree)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// A machine of which nothing but its address is known is told the name under which
// the configuration is there.
func TestGRUBFetchesOfAStranger(t *testing.T) {
	b := newBench(t)
	tab := b.compiled(b.grubSite())
	got := tab.answer(provider.Query{MAC: provider.AddressMAC(netip.MustParseAddr("10.0.0.9")), Subnet: lan})
	if want := tab.offers[provider.TreeKey{Subnet: lan}][0].tree.path(grubConfig); got[1].Name != want || got[1].Digest == "" {
		t.Errorf("%+v, want %s", got[1], want)
	}
	if !strings.Contains(got[2].Line, "BOOTIF=01-$mac ") {
		t.Errorf("line %q", got[2].Line)
	}
}

// The line was read from /proc/cmdline of a machine that GRUB 2.06 booted.
func TestGRUBKernelLine(t *testing.T) {
	b := newBench(t)
	for protocol, device := range map[schema.Protocol]string{schema.Fastest: "(tftp,10.0.0.1)", schema.HTTP: "(http,10.0.0.1)"} {
		d := b.grubSite()
		d.Bootloaders[0].Protocol = protocol
		tab := b.compiled(d)
		o := tab.offers[provider.TreeKey{Subnet: lan, Host: ws02}][0]
		want := "BOOT_IMAGE=" + device + "/b/" + o.tree.id + "/arch/vmlinuz root=/dev/nbd0 nbdroot=10.0.0.1,arch@" + b.art.Short() +
			",nbd0 ip=dhcp BOOTIF=01-52-54-00-00-00-02 rw dlreconcile.url=http://10.0.0.1 panic=30 quiet systemd.log_level=debug"
		if got := o.family.line(o, o.choices[0], provider.MAC{0x52, 0x54, 0, 0, 0, 2}); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Names of another DHCP server, and of a GRUB that was made elsewhere.
func TestGRUBAliases(t *testing.T) {
	b := newBench(t)
	d := b.grubSite()
	tab := b.compiled(d)
	o := tab.offers[provider.TreeKey{Subnet: lan}][0]
	for name, want := range map[string]string{
		"core.0": "core.0", "x/core.0": "core.0", "grub/i386-pc/core.0": "core.0",
		"core.efi": "core.efi", "grub/x86_64-efi/core.efi": "core.efi",
		"grub/i386-efi/core.efi": "core-i386-efi.efi", "core-i386-efi.efi": "core-i386-efi.efi",
		"shimx64.efi": "", "grubx64.efi": "", // not without secure_boot
		"grub/arm64-efi/core.efi": "", // the image is for amd64
		"undionly.kpxe":           "", "grub/i386-pc/normal.mod": "", "grub/x86_64-efi/command.lst": "", "grub": "", "": "",
	} {
		got := ""
		if f := o.family.alias(o, name); f != nil {
			got = f.name
		}
		if got != want {
			t.Errorf("%q means %q, want %q", name, got, want)
		}
	}
	into := "set folder=b/" + o.tree.id + "\nexport folder\nconfigfile (tftp,10.0.0.1)/b/" + o.tree.id + "/grub.cfg\n" + grubGiveUp
	who := `if regexp --set=1:a --set=2:b --set=3:c --set=4:d --set=5:e --set=6:f '^(..):(..):(..):(..):(..):(..)$' "$net_default_mac"; then
  configfile "(tftp,10.0.0.1)/grub/grub.cfg-01-$a-$b-$c-$d-$e-$f"
fi
configfile (tftp,10.0.0.1)/grub/grub.cfg-address
` + grubGiveUp
	for name, want := range map[string]string{
		"grub.cfg": who, "grub/grub.cfg": who, "any/where/grub.cfg": who,
		"grub.cfg-01-52-54-00-00-00-01": into, "grub/grub.cfg-01-52-54-00-00-00-01": into,
		"grub/grub.cfg-0A000009": into, "grub/grub.cfg-address": into,
	} {
		f := o.family.alias(o, name)
		if f == nil || f.role != provider.AnswerScript || f.name != name {
			t.Errorf("%q means %+v", name, f)
		} else if d := cmp.Diff(want, f.text); d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
	for _, name := range []string{"grub.cfg-01-52-54-00-00-00-01", "grub.cfg-0A000009"} {
		if f := o.family.within(o.tree, name); f == nil || f.name != grubConfig {
			t.Errorf("in the tree, %q means %+v", name, f)
		}
	}
	if f := o.family.within(o.tree, "i386-pc/fs.lst"); f != nil {
		t.Errorf("in the tree, a list means %+v", f)
	}
}

// What a machine asks for by undigested names leads to its own tree although nothing
// but its address is known: it says its name at the second question.
func TestGRUBAliasSaysWhoAsks(t *testing.T) {
	b := newBench(t)
	d := foreign(b.grubSite())
	d.Subnets[0].Mode, d.Servers[0].DHCP.Disabled = schema.ModeServer, true // core images begin where they came from
	d.Subnets[0].Boot = d.Subnets[0].Boot[:1]
	b.art.Signed, d.Bootloaders[0].SecureBoot = true, true
	b.prepare(loopback(t, d)).Commit()
	tab := b.pub.Load().ByGen[1]
	two := tab.offers[provider.TreeKey{Subnet: lan, Host: ws02}][0]
	stranger := netip.MustParseAddr("127.0.0.5")
	first, _ := b.ask(t, asked{from: stranger, name: "grub/grub.cfg"})
	if strings.Contains(first, two.tree.id) || !strings.Contains(first, "/grub/grub.cfg-01-$a-") {
		t.Errorf("the first answer names a tree, or does not ask for a name:\n%s", first)
	}
	second, id := b.ask(t, asked{from: stranger, name: "grub/grub.cfg-01-52-54-00-00-00-02"})
	if id != two.tree.id || !strings.Contains(second, two.tree.path(grubConfig)) {
		t.Errorf("%s, which is of %s:\n%s", id, two.tree.id, second)
	}
	b.ask(t, asked{from: stranger, name: "shimx64.efi"})
	b.ask(t, asked{from: stranger, name: "grubx64.efi"})
	want := []string{"127.0.0.5 script", "127.0.0.5 script", "127.0.0.5 loader", "127.0.0.5 script"}
	if d := cmp.Diff(want, b.boots.calls()); d != "" {
		t.Errorf("sessions (-want +got)\n%s", d)
	}
}

func TestGRUBTargets(t *testing.T) {
	b := newBench(t)
	d := b.grubSite()
	b.art.Signed, b.art.Arch = true, "amd64"
	list := func(change func(*schema.Desired)) []string {
		change(d)
		var out []string
		for _, target := range b.compiled(d).offers[provider.TreeKey{Subnet: lan}][0].out.Targets {
			_, name, _ := split(strings.TrimPrefix(target.File, "http://10.0.0.1/"))
			how := ""
			if target.HTTP {
				how = " by HTTP"
			}
			out = append(out, strings.Join([]string{schema.ClientArchOf(target.Arch).Name, name + how}, ": "))
		}
		return out
	}
	want := []string{
		"BIOS: core.0", "BIOS, HTTP: core.0",
		"UEFI x86-64: core.efi", "UEFI byte code, said by x86-64: core.efi", "UEFI x86-64, HTTP: core.efi", "UEFI byte code, said by x86-64, HTTP: core.efi",
		"UEFI x86-64: core.efi by HTTP", "UEFI byte code, said by x86-64: core.efi by HTTP", "UEFI x86-64, HTTP: core.efi by HTTP", "UEFI byte code, said by x86-64, HTTP: core.efi by HTTP",
		"UEFI x86, 32 bits: core-i386-efi.efi", "UEFI x86, 32 bits, HTTP: core-i386-efi.efi",
		"UEFI x86, 32 bits: core-i386-efi.efi by HTTP", "UEFI x86, 32 bits, HTTP: core-i386-efi.efi by HTTP",
	}
	if diff := cmp.Diff(want, list(func(*schema.Desired) {})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var secure []string
	for _, s := range want {
		if strings.Contains(s, "core.efi by HTTP") {
			continue
		}
		secure = append(secure, strings.Replace(s, "core.efi", "shimx64.efi", 1))
	}
	if diff := cmp.Diff(secure, list(func(d *schema.Desired) { d.Bootloaders[0].SecureBoot = true })); diff != "" {
		t.Errorf("with Secure Boot (-want +got)\n%s", diff)
	}
	arm := list(func(d *schema.Desired) { b.art.Arch, d.Bootloaders[0].SecureBoot = "arm64", false })
	if want := []string{"UEFI ARM, 64 bits: core-arm64-efi.efi", "UEFI ARM, 64 bits, HTTP: core-arm64-efi.efi",
		"UEFI ARM, 64 bits: core-arm64-efi.efi by HTTP", "UEFI ARM, 64 bits, HTTP: core-arm64-efi.efi by HTTP"}; !slices.Equal(arm, want) {
		t.Errorf("for arm64: %q", arm)
	}
}

func TestGRUBOverHTTPAlone(t *testing.T) {
	b := newBench(t)
	d := b.grubSite()
	d.Servers[0].TFTP.Disabled = true
	tab := b.compiled(d)
	q := provider.Query{Host: ws01, Arch: 16, Vendor: vendorHTTP}
	for _, a := range tab.answer(q) {
		if a.Protocol != "http" || a.Fail != "" {
			t.Errorf("%+v", a)
		}
	}
	if o := tab.offers[provider.TreeKey{Subnet: lan}][0]; !strings.Contains(o.tree.file(grubConfig).text, `set tree="(http,10.0.0.1)/$folder"`) {
		t.Error(o.tree.file(grubConfig).text)
	}
	for name, change := range map[string]func(*schema.Bootloader){
		"protocol":    func(b *schema.Bootloader) { b.Protocol = schema.TFTP },
		"secure_boot": func(b *schema.Bootloader) { b.SecureBoot = true },
	} {
		d := b.grubSite()
		d.Servers[0].TFTP.Disabled = true
		change(d.Bootloaders[0])
		_, err := b.compile(d)
		if err == nil || !strings.Contains(err.Error(), "TFTP switched off") && !strings.Contains(err.Error(), "has it switched off") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGRUBDevice(t *testing.T) {
	for at, want := range map[string]string{"10.0.0.1:69": "(tftp,10.0.0.1)", "10.0.0.1:6969": "(tftp,10.0.0.1:6969)"} {
		if got := grubDevice("tftp", netip.MustParseAddrPort(at), 69); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}
