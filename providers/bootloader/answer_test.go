package bootloader

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// short writes answers as lines: kind, where, name with ID for the tree's, why not.
func short(list []provider.Answer, o *offer) []string {
	var out []string
	for _, a := range list {
		line := fmt.Sprintf("%s %s://%s/%s", a.Kind, a.Protocol, a.Server, strings.Replace(a.Name, o.tree.id, "ID", 1))
		if a.Again != "" {
			line += " again " + a.Again
		}
		if a.Fail != "" {
			line += " FAIL " + a.Fail
		}
		if a.Digest == "" && a.Fail == "" {
			line += " unknown"
		}
		out = append(out, line)
	}
	return out
}

// Files that are named by hand, or by another DHCP server, resolve to the machine's
// own tree.
func TestFilesNamedByOthers(t *testing.T) {
	b := newBench(t)
	stranger := provider.MAC{0x52, 0x54, 0, 0, 0, 0x99}
	script := []string{"script http://10.0.0.1:80/b/ID/boot.ipxe", "kernel http://10.0.0.1:80/b/ID/arch/vmlinuz", "initrd http://10.0.0.1:80/b/ID/arch/initrd.img"}
	for name, tc := range map[string]struct {
		hand map[uint16]string // boot_file_name
		next string            // next_server
		q    provider.Query
		want []string
		at   schema.Range
	}{
		"a program by hand": {map[uint16]string{7: "ipxe.efi"}, "", provider.Query{Arch: 7},
			append([]string{"loader tftp://10.0.0.1:69/ipxe.efi again iPXE"}, script...), at(44)},
		"in a folder, with a slash": {map[uint16]string{0: "/pxe/undionly.kpxe"}, "", provider.Query{},
			append([]string{"loader tftp://10.0.0.1:69/pxe/undionly.kpxe again iPXE"}, script...), at(44)},
		"as a URL of ours": {map[uint16]string{16: "http://10.0.0.1/ipxe.efi"}, "", provider.Query{Arch: 16, Vendor: vendorHTTP},
			append([]string{"loader http://10.0.0.1:80/ipxe.efi again iPXE"}, script...), at(44)},
		"as a URL of somebody else's": {map[uint16]string{16: "http://10.0.0.9/ipxe.efi"}, "", provider.Query{Arch: 16, Vendor: vendorHTTP},
			[]string{"loader http://10.0.0.9:80/ipxe.efi unknown"}, at(44)},
		"a path for HTTP boot": {map[uint16]string{16: "ipxe.efi"}, "", provider.Query{Arch: 16, Vendor: vendorHTTP},
			[]string{"loader tftp://10.0.0.1:69/ipxe.efi again iPXE FAIL firmware that boots over HTTP takes a URL, http://…, and no path"}, at(44)},
		"a URL for PXE": {map[uint16]string{7: "http://10.0.0.1/ipxe.efi"}, "", provider.Query{Arch: 7, Vendor: "PXEClient"},
			[]string{"loader http://10.0.0.1:80/ipxe.efi again iPXE FAIL firmware fetches its boot file over TFTP, and takes a path and no URL"}, at(44)},
		"another DHCP server, a URL for PXE": {nil, "", provider.Query{Arch: 7, File: "tftp://10.0.0.9/x.efi"},
			[]string{"loader tftp://10.0.0.9:69/x.efi FAIL firmware fetches its boot file over TFTP, and takes a path and no URL"}, at(30)},
		"on another server": {map[uint16]string{7: "ipxe.efi"}, "10.0.0.9", provider.Query{Arch: 7},
			[]string{"loader tftp://10.0.0.9:69/ipxe.efi unknown"}, at(44)},
		"not there": {map[uint16]string{7: "grub/core.efi"}, "10.0.0.1", provider.Query{Arch: 7},
			[]string{"loader tftp://10.0.0.1:69/grub/core.efi FAIL the file is not served here"}, at(44)},
		"for another architecture": {map[uint16]string{7: "ipxe.efi"}, "", provider.Query{Arch: 9},
			append([]string{"loader tftp://10.0.0.1:69/b/ID/snponly.efi again iPXE"}, script...), at(30)},
		"iPXE is told its script all the same": {map[uint16]string{7: "ipxe.efi"}, "", provider.Query{Arch: 7, Class: classIPXE}, script, at(30)},
		"another DHCP server, a program": {nil, "", provider.Query{File: "undionly.kpxe"},
			append([]string{"loader tftp://10.0.0.1:69/undionly.kpxe again iPXE"}, script...), at(30)},
		"another DHCP server, the script": {nil, "", provider.Query{File: "boot.ipxe", Class: classIPXE},
			append([]string{"script tftp://10.0.0.1:69/boot.ipxe"}, script...), at(30)},
		"another DHCP server, the script to a known machine": {nil, "", provider.Query{MAC: stranger, File: "boot.ipxe", Class: classIPXE},
			append([]string{"script tftp://10.0.0.1:69/boot.ipxe", "script http://10.0.0.1:80/boot.ipxe-01-52-54-00-00-00-99"}, script...), at(30)},
		"another DHCP server, the machine's own script": {nil, "", provider.Query{MAC: stranger, File: "boot.ipxe-01-52-54-00-00-00-99", Class: classIPXE},
			append([]string{"script tftp://10.0.0.1:69/boot.ipxe-01-52-54-00-00-00-99"}, script...), at(30)},
		"another DHCP server, an iPXE to a known iPXE": {nil, "", provider.Query{MAC: stranger, File: "undionly.kpxe", Class: classIPXE},
			append([]string{"script tftp://10.0.0.1:69/undionly.kpxe", "script http://10.0.0.1:80/boot.ipxe-01-52-54-00-00-00-99"}, script...), at(30)},
		"another DHCP server, the script to firmware": {nil, "", provider.Query{File: "boot.ipxe"},
			append([]string{"script tftp://10.0.0.1:69/boot.ipxe FAIL it is a configuration, and not a program that firmware could run"}, script...), at(30)},
		"another DHCP server, an iPXE to iPXE": {nil, "", provider.Query{File: "undionly.kpxe", Class: classIPXE},
			append([]string{"script tftp://10.0.0.1:69/undionly.kpxe"}, script...), at(30)},
		"another DHCP server, its own file": {nil, "", provider.Query{File: "bootx64.efi"},
			[]string{"loader tftp://10.0.0.1:69/bootx64.efi FAIL the file is not served here"}, at(30)},
	} {
		d := site()
		s := d.Subnets[0]
		s.BootFileName, s.Attrs["boot_file_name"] = tc.hand, at(44)
		if tc.next != "" {
			s.NextServer = netip.MustParseAddr(tc.next)
		}
		tab := b.compiled(d)
		got := tab.answer(tc.q)
		if d := cmp.Diff(tc.want, short(got, offerOf(t, tab, schema.Addr{}))); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if got[0].Range != tc.at {
			t.Errorf("%s: because of %v, want %v", name, got[0].Range, tc.at)
		}
		// What is served under that name is what is answered.
		if a := got[0]; a.Fail == "" && a.Digest != "" && !strings.HasPrefix(a.Name, root) {
			_, f := aliasOf(tab.offers[provider.TreeKey{Subnet: lan}], a.Name, tc.q.Class)
			if f == nil || f.digest != a.Digest || f.size != a.Size || f.text != a.Text {
				t.Errorf("%s: served %+v, answered %+v", name, f, a)
			}
		}
	}
}

// A file named by hand is for those who boot what their subnet says.
func TestAHostsOwnBootloaderBeatsTheSubnetsFiles(t *testing.T) {
	b := newBench(t)
	d := site()
	other := addr("bootloader", "ipxe", "other")
	d.Bootloaders = append(d.Bootloaders, &schema.Bootloader{Meta: meta(other, 70), Entries: []schema.Addr{arch}})
	d.Subnets[0].BootFileName = map[uint16]string{0: "undionly.kpxe"}
	d.Hosts[0].Boot = []schema.Addr{other}
	tab := b.compiled(d)
	if a := tab.answer(provider.Query{Host: ws01})[0]; !strings.HasPrefix(a.Name, "b/") || a.Range != at(70) {
		t.Errorf("%+v", a)
	}
	if a := tab.answer(provider.Query{Host: ws02})[0]; a.Name != "undionly.kpxe" {
		t.Errorf("%+v", a)
	}
}

// Of several boot loaders the first that has a program for the client counts; iPXE
// gets a script wherever one of them has one.
func TestSeveralBootloaders(t *testing.T) {
	b := newBench(t)
	d := foreign(site())
	px := d.Subnets[0].Boot[1]
	for name, tc := range map[string]struct {
		boot []schema.Addr
		q    provider.Query
		want schema.Addr // whose loader or script
		kind provider.AnswerKind
	}{
		"BIOS, iPXE first":     {[]schema.Addr{menu, px}, provider.Query{}, menu, provider.AnswerLoader},
		"BIOS, PXELINUX first": {[]schema.Addr{px, menu}, provider.Query{}, px, provider.AnswerLoader},
		"UEFI":                 {[]schema.Addr{px, menu}, provider.Query{Arch: 7}, menu, provider.AnswerLoader},
		"UEFI HTTP":            {[]schema.Addr{px, menu}, provider.Query{Arch: 16, Vendor: vendorHTTP}, menu, provider.AnswerLoader},
		"iPXE":                 {[]schema.Addr{px, menu}, provider.Query{Class: classIPXE}, menu, provider.AnswerScript},
		"iPXE is firmware":     {[]schema.Addr{px}, provider.Query{Class: classIPXE}, px, provider.AnswerLoader},
		"nothing fits":         {[]schema.Addr{px}, provider.Query{Arch: 7}, px, provider.AnswerLoader},
	} {
		d.Subnets[0].Boot = tc.boot
		in := b.input(d)
		core := b.put("pxelinux and its second half")
		in.Built[archImage].Artifact.Loaders = map[string]provider.Blob{
			provider.LoaderPXELINUX: core, provider.LoaderC32Prefix + "ldlinux.c32": core, provider.LoaderC32Prefix + "reboot.c32": core,
		}
		tab, err := compile(t.Context(), in, b.loaders, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		a := tab.answer(tc.q)[0]
		want := at(30)
		if tc.want == px {
			want = at(90)
		}
		if a.Kind != tc.kind || a.Range != want || (a.Fail != "") != (name == "nothing fits") {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// A host that turns up on another subnet boots what it boots at home.
func TestAwayFromHome(t *testing.T) {
	b := newBench(t)
	dmz := addr("subnet", "", "dmz")
	d := site()
	d.Subnets = append(d.Subnets, &schema.Subnet{Meta: meta(dmz, 80), Server: mainServer, CIDR: netip.MustParsePrefix("10.9.0.0/24"), Boot: []schema.Addr{menu}})
	tab := b.compiled(d)
	a := tab.answer(provider.Query{Host: ws01, Subnet: dmz, Class: classIPXE})
	if len(a) == 0 || a[0].Name != offerOf(t, tab, ws01).tree.path(scriptName) {
		t.Errorf("%+v", a)
	}
	d.Subnets[1].Boot = nil
	if a := b.compiled(d).answer(provider.Query{Host: ws01, Subnet: dmz}); a != nil {
		t.Errorf("a subnet without boot loaders: %+v", a)
	}
}

// The line of a machine that is known by its address only has the loader's own
// variable: nobody knows what that will be.
func TestLineOfANamelessMachine(t *testing.T) {
	b := newBench(t)
	tab := b.compiled(site())
	a := tab.answer(provider.Query{MAC: provider.AddressMAC(netip.MustParseAddr("10.0.0.7")), Class: classIPXE})
	if len(a) != 3 || !strings.Contains(a[1].Line, "BOOTIF=01-"+ipxeMAC) {
		t.Errorf("%+v", a)
	}
}

func TestMenuOfDifferentMachines(t *testing.T) {
	b := newBench(t)
	d := site()
	arm := addr("image", "", "arm")
	d.Entries[1].Image = arm
	in := b.input(d)
	art := b.artifact("arm")
	art.Arch = "arm64"
	in.Built[arm] = provider.Output{Artifact: &art}
	if _, err := compile(t.Context(), in, b.loaders, nil); err != nil {
		t.Fatal(err) // without a menu there is one choice
	}
	d.Bootloaders[0].Timeout = 5
	_, err := compile(t.Context(), in, b.loaders, nil)
	refused(t, "menu", err, "entry.rescue, whose image is for arm64, beside entry.arch, whose image is for amd64", at(31))
}

// What is explained of an iPXE that another DHCP server sent here is what it is served,
// request after request.
func TestForeignIPXEIsExplainedAsServed(t *testing.T) {
	b := newBench(t)
	b.run()
	d := loopback(t, foreign(site()))
	b.prepare(d).Commit()
	who := from("127.0.0.5")
	for _, file := range []string{"boot.ipxe", "undionly.kpxe"} {
		q := provider.Query{MAC: mac02, Host: ws02, Subnet: lan, Class: classIPXE, File: file}
		name := file
		for i, a := range b.Answer(q)[:3] {
			if a.Name != name || a.Kind != provider.AnswerScript {
				t.Fatalf("%s: answer %d is %s %s, and %s is asked for", file, i, a.Kind, a.Name, name)
			}
			text, _ := b.ask(t, asked{who, name, true})
			if digest([]byte(text)) != a.Digest || text != a.Text || int64(len(text)) != a.Size {
				t.Errorf("%s: served\n%s\nexplained\n%s", name, text, a.Text)
			}
			_, next, _ := strings.Cut(text, "chain --replace ")
			next, _, _ = strings.Cut(next, " ")
			_, _, name = placesOf(d.Servers[0]).locate(strings.ReplaceAll(next, ipxeMAC, dashed(mac02)))
		}
	}
}

// Of a machine that is known by its address only, nobody knows under which name its
// PXELINUX finds the configuration.
func TestForeignPXELINUXOfANamelessMachine(t *testing.T) {
	b := newBench(t)
	d := foreign(site())
	d.Subnets[0].Boot = d.Subnets[0].Boot[1:]
	in := b.input(d)
	core := b.put("pxelinux and its second half")
	in.Built[archImage].Artifact.Loaders = map[string]provider.Blob{
		provider.LoaderPXELINUX: core, provider.LoaderC32Prefix + "ldlinux.c32": core, provider.LoaderC32Prefix + "reboot.c32": core,
	}
	tab, err := compile(t.Context(), in, b.loaders, nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, mac := range map[string]provider.MAC{
		"pxelinux.cfg/01-52-54-00-00-00-02": mac02,
		"pxelinux.cfg/default":              provider.AddressMAC(from("127.0.0.5")),
		"x/pxelinux.cfg/default":            {},
	} {
		folder, _, _ := strings.Cut(want, pxeFolder)
		var names []string
		for _, a := range tab.answer(provider.Query{MAC: mac, Subnet: lan, File: folder + "pxelinux.0"}) {
			if a.Kind == provider.AnswerScript && !strings.HasPrefix(a.Name, root) {
				names = append(names, a.Name)
			}
		}
		if len(names) != 1 || names[0] != want {
			t.Errorf("explained are %q, want %q", names, want)
		}
	}
}

// Two boot loaders for machines of different kinds on one subnet: each machine's iPXE
// gets a script that it can boot from, and firmware that finds nothing is told why.
func TestSeveralKindsOfMachines(t *testing.T) {
	b := newBench(t)
	d := site()
	other, armImage, armEntry := addr("bootloader", "ipxe", "arm"), addr("image", "", "arm"), addr("entry", "", "arm")
	d.Entries = append(d.Entries, &schema.Entry{Meta: meta(armEntry, 25), Title: "ARM", Image: armImage})
	d.Bootloaders = append(d.Bootloaders, &schema.Bootloader{Meta: meta(other, 95), Entries: []schema.Addr{armEntry}})
	in := b.input(d)
	art := b.artifact("arm")
	art.Arch = "arm64"
	in.Built[armImage] = provider.Output{Artifact: &art}
	for _, order := range [][]schema.Addr{{menu, other}, {other, menu}} {
		d.Subnets[0].Boot = order
		tab, err := compile(t.Context(), in, b.loaders, nil)
		if err != nil {
			t.Fatal(err)
		}
		for arch, want := range map[uint16]schema.Range{0: at(30), 7: at(30), 9: at(30), 11: at(95)} {
			if a := tab.answer(provider.Query{Arch: arch, Class: classIPXE})[0]; a.Kind != provider.AnswerScript || a.Range != want || a.Fail != "" {
				t.Errorf("iPXE of architecture %d, %v: %+v", arch, order, a)
			}
		}
		if a := tab.answer(provider.Query{Arch: 11})[0]; a.Range != at(95) || !strings.Contains(a.Fail, "snponly-arm64.efi was not found") && !strings.Contains(a.Fail, "ipxe-arm64.efi was not found") {
			t.Errorf("firmware without a program, %v: %+v", order, a)
		}
	}
}
