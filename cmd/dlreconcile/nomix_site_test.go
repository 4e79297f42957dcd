package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The site whose every commit can be told from every other one by whatever a
// machine gets of it. It is on loopback, in a network of its own, so its ports are
// the standard ones. DHCP comes through relay agents, one for each machine: nobody
// hears a broadcast on loopback.
const (
	mixServer   = "127.0.0.1"
	mixDHCPPort = 67
	mixLatePort = 4011
	mixImages   = 4
	mixSize     = 16 << 20 // of a root
)

// mixFiles is the repo of commit n. The roots are the same for all commits, and
// commit n uses number n modulo mixImages of them, so that nothing is built twice.
func mixFiles(n int) (map[string]string, error) {
	files := map[string]string{"site.hcl": mixSite(n)}
	if n > 1 {
		return files, nil
	}
	for k := range mixImages {
		root, err := mixRoot(k, nil)
		if err != nil {
			return nil, err
		}
		files[fmt.Sprintf("root-%d.tar", k)] = root
	}
	return files, nil
}

func mixSite(n int) string {
	return mixText(mixParts{
		commit: n, image: n % mixImages, mode: "copy-on-write", pools: []string{"127.0.1.1-127.0.1.99"}, hosts: mixHosts(""),
	})
}

// mixParts is what differs between the commits of a site.
type mixParts struct {
	commit, image int
	args          string   // more arguments of the entry, each with a comma and a space before it
	mode, allow   string   // of the export; allow is whole lines
	pools         []string // ranges
	hosts         []mixHost
	more          string // blocks
}

// mixHost is a host block; what is empty is left out of it.
type mixHost struct{ name, mac, address, boot, arg string }

func (h mixHost) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nhost %q {\n  mac = %q\n", h.name, h.mac)
	if h.address != "" {
		fmt.Fprintf(&b, "  address = %q\n", h.address)
	}
	if h.boot != "" {
		fmt.Fprintf(&b, "  boot = [bootloader.%s]\n", h.boot)
	}
	if h.arg != "" {
		fmt.Fprintf(&b, "  args = [%q]\n", h.arg)
	}
	return b.String() + "}\n"
}

// mixHosts are the hosts that get another boot loader than their subnet says. suffix is of the
// names of the machines.
func mixHosts(suffix string) []mixHost {
	var list []mixHost
	for _, h := range [][2]string{
		{"pxe", "pxelinux.pxe"}, {"lpxe", "pxelinux.lpxe"},
		{"grub", "grub.core"}, {"signed", "grub.signed"}, {"proxied-signed", "grub.signed"},
	} {
		name := h[0] + suffix
		list = append(list, mixHost{name: name, mac: mixMAC(name).String(), boot: h[1]})
	}
	return list
}

func mixText(p mixParts) string {
	var b strings.Builder
	fmt.Fprintf(&b, `server "main" {
  address = "127.0.0.1"
}

image "root" {
  tar {
    path = "root-%[1]d.tar"
  }
  initramfs "none" {}
  filesystem "ext4" {
    size  = "16MiB"
    label = "image-%[1]d"
  }
}

export "nbd" "root" {
  image = image.root
  mode  = %[4]q
%[5]s}

entry "root" {
  image = image.root
  title = "commit-%[2]d"
  root  = export.nbd.root
  args  = ["commit=%[2]d"%[3]s]
}

bootloader "ipxe" "menu" {
  entries = [entry.root]
}

bootloader "pxelinux" "pxe" {
  entries = [entry.root]
}

bootloader "pxelinux" "lpxe" {
  entries  = [entry.root]
  protocol = "http"
}

bootloader "grub" "core" {
  entries = [entry.root]
}

bootloader "grub" "signed" {
  entries     = [entry.root]
  secure_boot = true
}

subnet "lan" {
  cidr        = "127.0.0.0/16"
  domain_name = "commit-%[2]d.example"
  boot        = [bootloader.ipxe.menu]
%[6]s}

subnet "far" { # another DHCP server's
  mode = "proxy"
  cidr = "127.9.0.0/16"
  boot = [bootloader.ipxe.menu, bootloader.pxelinux.pxe, bootloader.grub.signed]
}
`, p.image, p.commit, p.args, p.mode, p.allow, pools(p.pools))
	for _, h := range p.hosts {
		b.WriteString(h.String())
	}
	b.WriteString(p.more)
	return b.String()
}

func pools(ranges []string) string {
	var b strings.Builder
	for _, r := range ranges {
		fmt.Fprintf(&b, "  pool {\n    range = %q\n  }\n", r)
	}
	return b.String()
}

// mixRoot packs the least that counts as a bootable root, with boot programs of its
// own; each file that a machine loads says which image it is of. more is behind the
// kernel and the initrd, and is a file of the root.
func mixRoot(k int, more []byte) (string, error) {
	const kernel = "6.1.0-mix-amd64"
	mark := fmt.Appendf(nil, "image-%d\n", k)
	files := []struct {
		name    string
		content []byte
	}{
		{"etc/os-release", []byte("ID=mix\n")},
		{"sbin/init", mark},
		{"lib/modules/" + kernel + "/modules.dep", mark},
		{"boot/vmlinuz-" + kernel, slices.Concat(mixKernel(kernel), mark, more)},
		{"boot/initrd.img-" + kernel, slices.Concat(emptyInitrd(), mark, more)},
	}
	if more != nil {
		files = append(files, struct {
			name    string
			content []byte
		}{"srv/data", more})
	}
	for _, name := range []string{"PXELINUX/pxelinux.0", "PXELINUX/lpxelinux.0", "shim/shimx64.efi.signed", "grub/x86_64-efi-signed/grubnetx64.efi.signed"} {
		files = append(files, struct {
			name    string
			content []byte
		}{"usr/lib/" + name, append(mixKernel(kernel), mark...)})
	}
	for _, name := range []string{"ldlinux.c32", "libcom32.c32", "reboot.c32", "menu.c32", "libutil.c32"} {
		files = append(files, struct {
			name    string
			content []byte
		}{"usr/lib/syslinux/modules/bios/" + name, mark})
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{}
	for _, f := range files {
		for at, c := range f.name {
			if dir := f.name[:at] + "/"; c == '/' && !made[dir] {
				made[dir] = true
				if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
					return "", err
				}
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content)), ModTime: time.Unix(0, 0)}); err != nil {
			return "", err
		}
		if _, err := w.Write(f.content); err != nil {
			return "", err
		}
	}
	return b.String(), w.Close()
}

// mixKernel begins as an x86 kernel with an EFI stub and a signature does: a PE
// image (PE/COFF, revision 11) around the header of
// Documentation/arch/x86/boot.rst. Whose signature it is, nobody asks here.
func mixKernel(version string) []byte {
	k := kernelHeader(version)
	k[0x236] |= 1 // xloadflags: it has a 64-bit entry point
	const pe, certificate, length = 0x40, 0x800, 0x20
	copy(k, "MZ")
	binary.LittleEndian.PutUint32(k[0x3c:], pe)
	copy(k[pe:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(k[pe+4:], 0x8664) // machine
	binary.LittleEndian.PutUint16(k[pe+20:], 0xf0)  // size of the optional header
	opt := k[pe+24:]
	binary.LittleEndian.PutUint16(opt, 0x20b)    // PE32+
	binary.LittleEndian.PutUint32(opt[108:], 16) // data directories; the fifth is:
	binary.LittleEndian.PutUint32(opt[144:], certificate)
	binary.LittleEndian.PutUint32(opt[148:], length)
	binary.LittleEndian.PutUint32(k[certificate:], length)
	binary.LittleEndian.PutUint16(k[certificate+4:], 0x0200) // revision
	binary.LittleEndian.PutUint16(k[certificate+6:], 0x0002) // PKCS #7
	copy(k[certificate+8:], "\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02")
	return k
}

var (
	commitMark = regexp.MustCompile(`commit[=-](\d+)\b`)
	imageMark  = regexp.MustCompile(`image-(\d+)`)
	treeMark   = regexp.MustCompile(`\bb/([a-z2-7]{26})/`)
)

// marksIn gives what a mark says in b, each thing once.
func marksIn(mark *regexp.Regexp, b []byte) []string {
	var list []string
	for _, m := range mark.FindAllSubmatch(b, -1) {
		if s := string(m[1]); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
