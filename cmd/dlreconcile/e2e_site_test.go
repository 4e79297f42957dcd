package main

import (
	"fmt"
	"strings"
)

// The machines of the tests, by the last byte of their MACs.
const (
	machineA = 0x0a // ext4, copy-on-write
	machineB = 0x0b
	machineC = 0x0c
	machineD = 0x0d // squashfs with an overlay in memory
	machineX = 0x1f // no host block: whatever comes along
)

// siteHCL is the desired state that the boot tests serve. Its marker is what a
// machine's console shows of the image that it runs.
func siteHCL(marker string) string {
	return fmt.Sprintf(`
server "main" {
  interface = "br0"
  address   = "10.77.0.1"
}

locals {
  packages = ["linux-image-cloud-amd64", "systemd-sysv", "udev", "dbus", "iproute2", "kmod"]
  marker   = %q
}

image "disk" {
  debootstrap {
    suite    = "bookworm"
    packages = local.packages
  }
  hostname = "diskless"
  file "/etc/marker" {
    content = "${local.marker}\n"
  }
  file "/usr/local/sbin/writer" {
    source      = "files/writer"
    permissions = "0755"
  }
  file "/etc/systemd/system/writer.service" {
    source = "files/writer.service"
  }
  file "/etc/systemd/system/multi-user.target.wants/writer.service" {
    symlink = "../writer.service"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

image "live" {
  debootstrap {
    suite    = "bookworm"
    packages = local.packages
  }
  hostname = "live"
  file "/etc/marker" {
    content = "squashfs\n"
  }
  file "/usr/local/sbin/writer" {
    source      = "files/writer"
    permissions = "0755"
  }
  file "/etc/systemd/system/writer.service" {
    source = "files/writer.service"
  }
  file "/etc/systemd/system/multi-user.target.wants/writer.service" {
    symlink = "../writer.service"
  }
  filesystem "squashfs" {
    compress = "lz4"
  }
}

export "nbd" "disk" {
  image = image.disk
  mode  = "copy-on-write"
  keep  = "boot"
  allow = [subnet.lan]
}

export "nbd" "live" {
  image = image.live
  mode  = "read-only"
}

entry "disk" {
  title = "Debian on a disk that is not there"
  image = image.disk
  root  = export.nbd.disk
  args  = ["console=ttyS0", "quiet", "no_timer_check"]
}

entry "live" {
  image = image.live
  root  = export.nbd.live
  args  = ["console=ttyS0", "quiet", "no_timer_check"]
}

bootloader "ipxe" "menu" {
  entries = [entry.disk]
}

bootloader "ipxe" "live" {
  entries = [entry.live]
}

subnet "lan" {
  cidr                = "10.77.0.0/24"
  authoritative       = true
  routers             = [server.main.address]
  domain_name_servers = [server.main.address]
  domain_name         = "lab.example"
  lease_time          = "10m"
  boot                = bootloader.ipxe.menu
  pool {
    range = "10.77.0.100-10.77.0.199"
  }
}

host "pc" {
  for_each = { a = 10, b = 11, c = 12 }
  mac      = format("52:54:00:00:00:%%02x", each.value)
  address  = cidrhost("10.77.0.0/24", each.value + 10)
}

host "live" {
  mac     = "52:54:00:00:00:0d"
  address = "10.77.0.23"
  boot    = bootloader.ipxe.live
  args    = ["systemd.log_level=notice"]
}
`, marker)
}

// writer writes files with fsync and checks every one of them again and again,
// past the page cache. What it finds goes to the console.
const writer = `#!/bin/sh
# Each round: one new file, synced, its checksum noted; then all files are read
# back from the disk and held against their checksums.
mkdir -p /data && cd /data || exit 1
say() { echo "WRITER $* $(cat /etc/marker)" >/dev/ttyS0; }
i=0
while :; do
  i=$((i + 1))
  n=$((i % 20))
  dd if=/dev/urandom of=new bs=64k count=1 conv=fsync 2>/dev/null || say "ERROR write"
  mv new "f$n" || say "ERROR rename"
  sha256sum "f$n" >"s$n" || say "ERROR checksum"
  sync || say "ERROR sync"
  echo 3 >/proc/sys/vm/drop_caches
  cat s* | sha256sum --quiet -c - >/dev/ttyS0 2>&1 || say "ERROR verify"
  say "ok $i"
  sleep 0.3
done
`

const writerUnit = `[Unit]
Description=Write, sync, read back
After=multi-user.target
[Service]
ExecStart=/usr/local/sbin/writer
StandardOutput=null
[Install]
WantedBy=multi-user.target
`

// siteFiles is the whole repo.
func siteFiles(marker string) map[string]string {
	return map[string]string{
		"site.hcl":             siteHCL(marker),
		"files/writer":         writer,
		"files/writer.service": writerUnit,
	}
}

// edited gives site.hcl with one piece of text replaced, which must be there.
func edited(marker, old, new string) map[string]string {
	hcl := siteHCL(marker)
	if !strings.Contains(hcl, old) {
		panic("the site has no text " + old)
	}
	return map[string]string{"site.hcl": strings.Replace(hcl, old, new, 1)}
}
