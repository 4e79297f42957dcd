package main

import (
	"fmt"
	"strings"
)

// Who gives out addresses in the sites of the boot matrix.
const (
	oursAlone   = ""                       // our DHCP server
	oursProxies = `mode = "proxy"`         // another one, and ours says what to boot
	oursSilent  = `dhcp { enabled=false }` // another one, which says what to boot as well
)

// matrixPackages is what the images of the matrix are made of: a system with a signed
// kernel, and the signed loaders, which are taken out of the image.
const matrixPackages = `["linux-image-cloud-amd64", "systemd-sysv", "udev", "dbus", "iproute2", "kmod", "btrfs-progs", "shim-signed", "grub-efi-amd64-signed"]`

// matrixImage is one of three images that differ in their file system only.
func matrixImage(name, filesystem string) string {
	return fmt.Sprintf(`
image %[1]q {
  debootstrap {
    suite    = "bookworm"
    packages = %[2]s
  }
  mask = ["e2scrub_reap.service", "e2scrub_all.timer", "apt-daily.timer", "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer", "fstrim.timer", "systemd-timesyncd.service", "getty@tty1.service", "serial-getty@ttyS0.service"]
  file "/etc/marker" {
    content = "%[1]s\n"
  }
  file "/var/lib/app/seed" {
    content = "from the image\n"
  }
  file "/usr/local/sbin/introduce" {
    source      = "files/introduce"
    permissions = "0755"
  }
  file "/etc/systemd/system/introduce.service" {
    source = "files/introduce.service"
  }
  file "/etc/systemd/system/multi-user.target.wants/introduce.service" {
    symlink = "../introduce.service"
  }
  filesystem %[3]s
}

export "nbd" %[1]q {
  image = image.%[1]s
  mode  = %[4]q
}

entry %[1]q {
  image = image.%[1]s
  root  = export.nbd.%[1]s
  args  = ["console=ttyS0", "quiet", "no_timer_check"]
  state "/var/lib/app" {}
}
`, name, matrixPackages, filesystem, map[bool]string{true: "read-only", false: "copy-on-write"}[name == "squashfs"])
}

// matrixImages are all of them.
func matrixImages() string {
	return matrixImage("ext4", `"ext4" {
    size = "2GiB"
  }`) + matrixImage("btrfs", `"btrfs" {
    size     = "2GiB"
    compress = "zstd"
  }`) + matrixImage("squashfs", `"squashfs" {
    compress = "lz4"
  }`)
}

// tinyImage is the small system of the timing table.
const tinyImage = `
image "tiny" {
  tar {
    path = "tiny.tar"
  }
  initramfs "none" {} # the archive has its own
  filesystem "ext4" {
    size = "64MiB"
  }
}

export "nbd" "tiny" {
  image = image.tiny
  mode  = "read-only"
}

entry "tiny" {
  image = image.tiny
  root  = export.nbd.tiny
  args  = ["console=ttyS0", "quiet", "no_timer_check"]
}
`

// matrixSite is the desired state with one host for each way, each with its own boot
// loader and entry. images declares the entries; dhcp is one of the constants above.
func matrixSite(ways []way, images string, dhcp string) string {
	var b strings.Builder
	server, subnet := "", ""
	if dhcp == oursSilent {
		server = "\n  dhcp {\n    enabled = false\n  }"
	} else {
		subnet = dhcp
	}
	fmt.Fprintf(&b, `
server "main" {
  interface = "br0"
  address   = "10.77.0.1"%s
}
%s`, server, images)

	// The blocks that the ways name, each with all entries that its hosts boot.
	entries, order := map[string][]string{}, []string{"bootloader.ipxe.http"}
	for _, w := range ways {
		if _, known := entries[w.bootloader]; !known && w.bootloader != order[0] {
			order = append(order, w.bootloader)
		}
		entries[w.bootloader] = with1(entries[w.bootloader], "entry."+w.entry)
	}
	if entries[order[0]] == nil {
		entries[order[0]] = []string{"entry." + ways[0].entry}
	}
	for _, name := range order {
		f := strings.Split(name, ".")
		fmt.Fprintf(&b, "\nbootloader %q %q {\n  entries = [%s]\n%s}\n", f[1], f[2], strings.Join(entries[name], ", "), loaderSays(f[1], f[2]))
	}
	fmt.Fprintf(&b, `
subnet "lan" {
  cidr = "10.77.0.0/24"
  boot = bootloader.ipxe.http
  # For the machines that the subnet says what to boot: another program than the first.
  boot_file_name = { "7" = "ipxe.efi" }
  %s
}
`, subnet)
	for _, w := range ways {
		boot := ""
		if !w.bySubnet {
			boot = "\n  boot    = " + w.bootloader
		}
		who := ""
		if w.entry != "tiny" { // whose initramfs settles nothing
			who = fmt.Sprintf("\n  file \"/etc/who\" {\n    content = \"I am %s\\n\"\n  }", w.name)
		}
		fmt.Fprintf(&b, "\nhost %q {\n  mac     = %q\n  address = %q\n  entry   = entry.%s%s%s\n}\n",
			w.name, macOf(w.last), w.address(), w.entry, boot, who)
	}
	return b.String()
}

// loaderSays is what a bootloader block has beside its entries.
func loaderSays(family, name string) string {
	switch {
	case family == "ipxe" && name == "tftp", family == "pxelinux":
		return fmt.Sprintf("  protocol = %q\n", name)
	case family == "grub" && name == "secure":
		return "  secure_boot = true\n  serial = \"0,115200\"\n"
	case family == "grub":
		return "  serial = \"0,115200\"\n"
	}
	return ""
}

// with1 adds a text to a list that has it once.
func with1(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}

// introduce says on the console who the machine is and what it has. Each line ends in
// a full stop, so that a line cut short shows.
const introduce = `#!/bin/sh
say() { echo "MATRIX $*." >/dev/ttyS0; }
say "cmdline $(cat /proc/cmdline)"
say "hostname $(cat /proc/sys/kernel/hostname) $(cat /etc/hostname)"
say "machine-id $(cat /etc/machine-id)"
say "root $(findmnt -nro FSTYPE /)"
say "who $(cat /etc/who)"
say "seed $(cat /var/lib/app/seed)"
hostname=$(cat /etc/hostname)
echo "$hostname was here" >>/var/lib/app/visitors
say "visitors $(cat /var/lib/app/visitors)"
say "state $(findmnt -nro FSROOT /var/lib/app)"
say "secure $(dmesg | grep -o -m1 'Secure boot enabled')"
say "failed $(systemctl list-units --state=failed --no-legend --plain | cut -d' ' -f1)"
say "up on $(cat /etc/marker)"
`

const introduceUnit = `[Unit]
Description=Say who this is
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/introduce
[Install]
WantedBy=multi-user.target
`

// matrixFiles is the whole repo.
func matrixFiles(ways []way, dhcp string) map[string]string {
	return map[string]string{
		"site.hcl":                matrixSite(ways, matrixImages(), dhcp),
		"files/introduce":         introduce,
		"files/introduce.service": introduceUnit,
	}
}
