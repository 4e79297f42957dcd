package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/schema"
)

// warned plans a site in which the first host was seen with a client architecture, and
// gives the reasons for which it would not boot.
func warned(t *testing.T, arch uint16, kernels map[string]Kernel, change ...func(*schema.Desired)) []string {
	t.Helper()
	d := newSite()
	for _, f := range change {
		f(d)
	}
	o := up("host.render01", "52:54:00:00:00:01", artifact1)
	o.Arch = &arch
	p := Compute(Input{Want: d, Observations: []Observation{o}, Kernels: kernels})
	var whys []string
	for _, w := range p.Warnings {
		if d := cmp.Diff([]string{"host.render01"}, w.Machines); d != "" {
			t.Errorf("machines (-want +got):\n%s", d)
		}
		_, why, _ := strings.Cut(w.Detail, "would not boot: ")
		whys = append(whys, why)
	}
	return whys
}

func TestWarnsOfArchitectures(t *testing.T) {
	loader := func(kind string) func(*schema.Desired) {
		return func(d *schema.Desired) {
			d.Bootloaders[0].Addr.Type = kind
			d.Subnets[0].Boot = []schema.Addr{d.Bootloaders[0].Addr}
		}
	}
	both := func(d *schema.Desired) {
		second := *d.Bootloaders[0]
		second.Addr = addr("bootloader.pxelinux.old")
		d.Bootloaders = append(d.Bootloaders, &second)
		d.Subnets[0].Boot = []schema.Addr{second.Addr, d.Bootloaders[0].Addr}
	}
	built := func(arch string) map[string]Kernel { return map[string]Kernel{recipe1: {Arch: arch}} }
	for _, tc := range []struct {
		name    string
		arch    uint16
		kernels map[string]Kernel
		change  func(*schema.Desired)
		want    []string
	}{
		{"BIOS", 0, nil, loader(schema.PXELINUX), nil},
		{"UEFI", 7, nil, loader(schema.PXELINUX), []string{"bootloader.pxelinux.menu is not made for it."}},
		{"what nothing is made for", 31, nil, loader(schema.GRUB), []string{"bootloader.grub.menu is not made for it."}},
		{"the second loader is", 7, nil, both, nil},
		{"neither loader is", 6, nil, both, []string{"bootloader.pxelinux.old is not made for it; bootloader.ipxe.menu is not made for it."}},
		{"HTTP without it", 20, nil, loader(schema.PXELINUX), []string{"bootloader.pxelinux.menu cannot be loaded over HTTP."}},
		{"HTTP is off", 16, nil, func(d *schema.Desired) { d.Servers[0].HTTP.Disabled = true }, []string{"HTTP is switched off on server.main."}},
		{"TFTP is off", 7, nil, func(d *schema.Desired) { d.Servers[0].TFTP.Disabled = true }, []string{"TFTP is switched off on server.main."}},
		{"TFTP is off, and it has HTTP", 16, nil, func(d *schema.Desired) { d.Servers[0].TFTP.Disabled = true }, nil},
		{"the kernel is not known", 11, nil, func(*schema.Desired) {}, nil},
		{"the kernel is another's", 11, built("amd64"), func(*schema.Desired) {}, []string{"image.arch is for amd64."}},
		{"the kernel fits", 11, built("arm64"), func(*schema.Desired) {}, nil},
		{"the kernel is to be built", 11, nil, func(d *schema.Desired) { d.Images[0].Debootstrap = &schema.Debootstrap{Arch: "amd64"} }, []string{"image.arch is for amd64."}},
		{"a file by hand", 31, nil, func(d *schema.Desired) { d.Subnets[0].BootFileName = map[uint16]string{31: "s390.img"} }, nil},
		{"a file by hand for others", 31, nil, func(d *schema.Desired) {
			d.Subnets[0].BootFileName = map[uint16]string{31: "s390.img"}
			both(d)
			d.Hosts[0].Boot = d.Subnets[0].Boot[:1]
		}, []string{"bootloader.pxelinux.old is not made for it."}},
		{"addresses only", 31, nil, func(d *schema.Desired) { d.Subnets[0].Boot = nil }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, warned(t, tc.arch, tc.kernels, tc.change)); d != "" {
				t.Errorf("warnings (-want +got):\n%s", d)
			}
		})
	}
}

// A kernel that nobody has built yet may turn out to be signed.
func TestWarnsOfUnsignedKernelsThatAreBuilt(t *testing.T) {
	for _, tc := range []struct {
		kernels map[string]Kernel
		warns   bool
	}{
		{nil, false},
		{map[string]Kernel{recipe1: {Arch: "amd64", Signed: true}}, false},
		{map[string]Kernel{recipe1: {Arch: "amd64"}}, true},
	} {
		d := newSite()
		d.Bootloaders[0].SecureBoot = true
		p := Compute(Input{Want: d, Kernels: tc.kernels})
		if got := len(p.Warnings) > 0; got != tc.warns {
			t.Errorf("%+v: %+v", tc.kernels, p.Warnings)
		}
		if tc.warns && !slices.Equal(p.Warnings[0].Machines, []string{"host.render01", "host.render02"}) {
			t.Errorf("%+v", p.Warnings[0])
		}
	}
	// Without a host at all, it may still be somebody.
	d := newSite(func(s *site) { s.hosts = nil })
	d.Bootloaders[0].SecureBoot = true
	p := Compute(Input{Want: d, Kernels: map[string]Kernel{recipe1: {}}})
	if len(p.Warnings) != 1 || p.Warnings[0].Machines == nil || len(p.Warnings[0].Machines) != 0 {
		t.Errorf("%+v", p.Warnings)
	}
}

func TestWarnsOfHostsThatNothingBoots(t *testing.T) {
	d := newSite()
	d.Bootloaders[0].Addr.Type = schema.PXELINUX
	d.Subnets[0].Boot = []schema.Addr{d.Bootloaders[0].Addr}
	p := Compute(Input{Want: d, Kernels: map[string]Kernel{recipe1: {Arch: "arm64"}}})
	if len(p.Warnings) != 1 || p.Warnings[0].Detail != "image.arch is for arm64, and bootloader.pxelinux.menu is not." || len(p.Warnings[0].Machines) != 2 {
		t.Errorf("%+v", p.Warnings)
	}
}

// A host without an address is where it can get one, and is lost when nothing boots it
// on any of these subnets.
func TestWarnsOfRoamingHostsThatNothingBootsAnywhere(t *testing.T) {
	plan := func(change func(lan, other *schema.Subnet)) []Warning {
		d := newSite(func(s *site) { s.hosts = s.hosts[:1]; s.hosts[0].address = "" })
		d.Hosts[0].Entry = d.Entries[0].Addr
		other := &schema.Subnet{Meta: schema.Meta{Addr: addr("subnet.other")}, Server: d.Servers[0].Addr}
		d.Subnets = append(d.Subnets, other)
		change(d.Subnets[0], other)
		return Compute(Input{Want: d}).Warnings
	}
	for _, tc := range []struct {
		name   string
		change func(lan, other *schema.Subnet)
		want   []string // the subnets that are told of
	}{
		{"no address there", func(_, _ *schema.Subnet) {}, nil},
		{"booted on the other one", func(_, other *schema.Subnet) { other.Mode = schema.ModeProxy }, nil},
		{"nowhere", func(lan, other *schema.Subnet) { lan.Boot, other.Mode = nil, schema.ModeProxy }, []string{"subnet.lan", "subnet.other"}},
		{"not where it can be", func(lan, other *schema.Subnet) { lan.Boot, other.Boot = nil, lan.Boot }, []string{"subnet.lan"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, w := range plan(tc.change) {
				_, rest, _ := strings.Cut(w.Detail, "nor its group, nor ")
				on, _, _ := strings.Cut(rest, " ")
				got = append(got, on)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("subnets (-want +got):\n%s", d)
			}
		})
	}
}

// A sealed image that the store does not hold was planned as if it were there, and apply
// refused it.
func TestTellsOfSealedImagesThatAreNotThere(t *testing.T) {
	d := newSite()
	im := d.Images[0]
	im.Source, im.Sealed = schema.SourceSealed, &schema.Sealed{Digest: artifact1}
	for _, tc := range []struct {
		name    string
		built   map[string]string
		summary string
		refused bool
	}{
		{"there", map[string]string{im.Recipe: artifact1}, "", false},
		{"not there", map[string]string{}, "The sealed image is not in the daemon's store", true},
		{"nobody asked", nil, "It is not known whether the daemon holds the sealed image", false},
	} {
		p := Compute(Input{Want: d, Built: tc.built})
		i := slices.IndexFunc(p.Warnings, func(w Warning) bool { return strings.Contains(w.Summary, "sealed") })
		switch {
		case tc.summary == "" && i < 0 && !p.Refused():
			continue
		case tc.summary == "" || i < 0:
			t.Errorf("%s: %+v", tc.name, p.Warnings)
			continue
		}
		w := p.Warnings[i]
		if w.Summary != tc.summary || w.Refused != tc.refused || p.Refused() != tc.refused || w.Range != im.At("sealed.digest") || !strings.Contains(w.Detail, artifact1) || len(w.Machines) == 0 {
			t.Errorf("%s: %+v", tc.name, w)
		}
	}
}
