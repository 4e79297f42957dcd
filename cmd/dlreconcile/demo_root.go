package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// loopbackSite is the repo of the demo without machines: everything on loopback,
// and a root that is packed here because making a real one needs root.
func loopbackSite(ports []int, commit int) (map[string]string, error) {
	root, err := smallRoot(commit)
	if err != nil {
		return nil, err
	}
	return map[string]string{"root.tar": root, "site.hcl": fmt.Sprintf(`server "main" {
  address = "127.0.0.1"
  dhcp {
    listen = ":%d"
  }
  tftp {
    listen = ":%d"
  }
  http {
    listen = ":%d"
  }
  nbd {
    listen = ":%d"
  }
}

image "small" {
  tar {
    path = "root.tar"
  }
  initramfs "none" {} # the archive has its own
  filesystem "ext4" {
    size = "16MiB"
  }
}

export "nbd" "small" {
  image = image.small
  mode  = "copy-on-write"
}

entry "small" {
  image = image.small
  root  = export.nbd.small
}

bootloader "ipxe" "menu" {
  entries = [entry.small]
}

subnet "loopback" {
  cidr = "127.0.0.0/8"
  boot = bootloader.ipxe.menu
  pool {
    range = "127.0.0.100-127.0.0.199"
  }
}
`, ports[0], ports[1], ports[2], ports[3])}, nil
}

// smallRoot packs the least that counts as a bootable root: a kernel image with a
// version in its header, modules of that version, and an initrd.
func smallRoot(commit int) (string, error) {
	const kernel = "6.1.0-demo-amd64"
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{"boot/", nil}, {"etc/", nil}, {"sbin/", nil}, {"lib/", nil}, {"lib/modules/", nil}, {"lib/modules/" + kernel + "/", nil},
		{"lib/modules/" + kernel + "/modules.dep", []byte("\n")},
		{"boot/vmlinuz-" + kernel, kernelHeader(kernel)},
		{"boot/initrd.img-" + kernel, emptyInitrd()},
		{"etc/os-release", []byte("ID=demo\n")},
		{"etc/motd", fmt.Appendf(nil, "commit %d\n", commit)},
		{"sbin/init", []byte("#!/bin/sh\n")},
	} {
		h := &tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return "", err
		}
		if _, err := w.Write(f.content); err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return b.String(), nil
}

// kernelHeader is a file that begins as an x86 Linux kernel does: the boot sector
// magic, "HdrS" and a pointer to the version (Documentation/arch/x86/boot.rst).
func kernelHeader(version string) []byte {
	k := make([]byte, 4096)
	binary.LittleEndian.PutUint16(k[0x1fe:], 0xaa55)
	copy(k[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(k[0x206:], 0x020f) // protocol 2.15
	k[0x236] |= 1                                    // XLF_KERNEL_64
	const at = 0x600
	binary.LittleEndian.PutUint16(k[0x20e:], at-0x200)
	copy(k[at:], version+" (demo) #1 SMP")
	return k
}

// emptyInitrd is a cpio archive in "newc" format that holds nothing.
func emptyInitrd() []byte {
	const name = "TRAILER!!!\x00"
	b := fmt.Appendf(nil, "070701%s%08X%s%s", strings.Repeat("00000000", 11), len(name), "00000000", name)
	for len(b)%512 != 0 {
		b = append(b, 0)
	}
	return b
}
