package explain

import (
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	mac     = provider.MAC{0x52, 0x54, 0, 0, 0, 1}
	ws01    = schema.Addr{Kind: "host", Name: "ws01"}
	lan     = schema.Addr{Kind: "subnet", Name: "lan"}
	srv     = schema.Addr{Kind: "server", Name: "main"}
	menu    = schema.Addr{Kind: "bootloader", Type: "ipxe", Name: "menu"}
	hostAt  = schema.Range{File: "site.hcl", Line: 40, Column: 1}
	lanAt   = schema.Range{File: "site.hcl", Line: 30, Column: 1}
	entryAt = schema.Range{File: "site.hcl", Line: 20, Column: 1}
)

const line = "initrd=initrd.img root=/dev/nbd0 nbdroot=10.0.0.1,arch@77aabbccddee,nbd0 ip=dhcp rw quiet"

// fake answers like the four providers do for one subnet with one tree.
type fake struct {
	asked  []string // "arch/vendor/class" of each query
	loader map[uint16]string
	silent bool   // DHCP does not answer
	root   string // asked for last
	change func(*provider.Query, []provider.Answer) []provider.Answer
}

func newFake() *fake {
	return &fake{loader: map[uint16]string{0: "b/tree1/undionly.kpxe", 6: "b/tree1/core-i386-efi.efi", 7: "b/tree1/snponly.efi", 9: "b/tree1/snponly.efi", 16: "http://10.0.0.1/b/tree1/ipxe.efi"}}
}

func (f *fake) ask(q provider.Query) []provider.Answer {
	f.asked = append(f.asked, strings.Join([]string{schema.ClientArchOf(q.Arch).Name, q.Vendor, q.Class}, "/"))
	f.root = q.Root
	list := []provider.Answer{
		{Kind: provider.AnswerRoot, Provider: "export", Protocol: "nbd", Name: "arch@77aabbccddee", Server: "10.0.0.1:10809", Mode: "copy-on-write", Digest: "sha256:77aabbccddeeff001122", Size: 1 << 30},
	}
	dhcp := provider.Answer{Kind: provider.AnswerDHCP, Provider: "dhcp", Protocol: "dhcp", Server: "10.0.0.1:67", Range: hostAt,
		Fields: map[string]string{"yiaddr": "10.0.0.21", "siaddr": "10.0.0.1", "option 51 lease time": "600", "option 6 domain name server": "10.0.0.1"}}
	loader := f.loader[q.Arch]
	if q.File != "" {
		loader = q.File
	}
	rest := []provider.Answer{
		{Kind: provider.AnswerKernel, Provider: "bootloader", Protocol: "http", Name: "b/tree1/arch/vmlinuz", Size: 9000000, Digest: "sha256:11aabbccddeeff", Line: line, Range: entryAt},
		{Kind: provider.AnswerInitrd, Provider: "bootloader", Protocol: "http", Name: "b/tree1/arch/initrd.img", Size: 12000000},
		{Kind: provider.AnswerInitrd, Provider: "bootloader", Protocol: "http", Name: "b/tree1/machine.img", Size: 512},
		{Kind: provider.AnswerKernel, Provider: "bootloader", Protocol: "http", Name: "b/tree1/rescue/vmlinuz", Line: "rescue"},
		{Kind: provider.AnswerInitrd, Provider: "bootloader", Protocol: "http", Name: "b/tree1/rescue/initrd.img"},
	}
	ipxe := []provider.Answer{{Kind: provider.AnswerScript, Provider: "bootloader", Protocol: "http", Server: "10.0.0.1:80", Name: "b/tree1/boot.ipxe", Size: 100, Text: "#!ipxe\nkernel arch/vmlinuz\nboot\n", Range: entryAt}}
	switch {
	case q.Class == "iPXE" && (q.File == "" || strings.HasSuffix(q.File, ".ipxe")):
		dhcp.Name = "http://10.0.0.1/b/tree1/boot.ipxe"
		list = append(append(list, ipxe...), rest...)
		if q.File != "" {
			list[1].Name = q.File
		}
	case loader == "" && (q.Vendor != "" || q.Class != ""):
		list = append(list, provider.Answer{Kind: provider.AnswerLoader, Provider: "bootloader", Fail: "no program for that", Range: entryAt})
	case q.Vendor != "":
		dhcp.Name = loader
		path, protocol := filePath(loader)
		l := provider.Answer{Kind: provider.AnswerLoader, Provider: "bootloader", Protocol: protocol, Server: "10.0.0.1:69", Name: path, Size: 70000, Digest: "sha256:55aabbccddeeff", Again: "iPXE"}
		if strings.HasPrefix(path, "b/tree1/core") {
			l.Again = ""
			list = append(list, l)
			for _, name := range []string{"grub.cfg-01-52-54-00-00-00-01", "x86_64-efi/command.lst", "x86_64-efi/fs.lst"} {
				list = append(list, provider.Answer{Kind: provider.AnswerScript, Provider: "bootloader", Protocol: "tftp", Name: "b/tree1/" + name, Absent: true})
			}
			list = append(list, provider.Answer{Kind: provider.AnswerScript, Provider: "bootloader", Protocol: "tftp", Name: "b/tree1/grub.cfg", Size: 80, Text: "linux\n", Range: entryAt})
		} else {
			list = append(append(list, l), ipxe...)
		}
		list = append(list, rest...)
	}
	if !f.silent {
		list = append(list, dhcp)
	}
	if f.change != nil {
		list = f.change(&q, list)
	}
	return list
}

// without takes the answers of a kind away.
func without(kind provider.AnswerKind) func(*provider.Query, []provider.Answer) []provider.Answer {
	return func(_ *provider.Query, list []provider.Answer) []provider.Answer {
		var out []provider.Answer
		for _, a := range list {
			if a.Kind != kind {
				out = append(out, a)
			}
		}
		return out
	}
}

// with edits the answers of a kind.
func with(kind provider.AnswerKind, edit func(provider.Query, *provider.Answer)) func(*provider.Query, []provider.Answer) []provider.Answer {
	return func(q *provider.Query, list []provider.Answer) []provider.Answer {
		for n := range list {
			if list[n].Kind == kind {
				edit(*q, &list[n])
			}
		}
		return list
	}
}

func desired(change ...func(*schema.Desired)) *schema.Desired {
	d := &schema.Desired{
		Servers:     []*schema.Server{{Meta: schema.Meta{Addr: srv}, Address: netip.MustParseAddr("10.0.0.1")}},
		Bootloaders: []*schema.Bootloader{{Meta: schema.Meta{Addr: menu}}},
		Subnets: []*schema.Subnet{{Meta: schema.Meta{Addr: lan, Range: lanAt}, Server: srv, Boot: []schema.Addr{menu}, CIDR: netip.MustParsePrefix("10.0.0.0/24"),
			Pools: []schema.Pool{{From: netip.MustParseAddr("10.0.0.128"), To: netip.MustParseAddr("10.0.0.254")}}}},
		Hosts: []*schema.Host{{Meta: schema.Meta{Addr: ws01, Range: hostAt}, MAC: mac.String(), Address: netip.MustParseAddr("10.0.0.21"), Subnet: lan}},
	}
	for _, f := range change {
		f(d)
	}
	return d
}
