# The client installation, and its root over NFS.

image "arch" {
  pacstrap {
    mirror = "https://archive.archlinux.org/repos/2026/11/01/$repo/os/$arch" # the same packages for ever
    packages = [
      "base",
      "linux",
      "linux-firmware",
      "mkinitcpio-nfs-utils",
      "nfs-utils",
      "grub",
      "btrfs-progs",
      "syslinux",
    ]
    files = ["packages/mkinitcpio-nbd-0.4-1-any.pkg.tar.xz"]
  }

  copy "/usr/lib/initcpio/hooks/netnfs4" {
    from    = "/usr/lib/initcpio/hooks/net"
    replace = { "nfsmount" = "mount.nfs4" }
  }
  copy "/usr/lib/initcpio/install/netnfs4" {
    from = "/usr/lib/initcpio/install/net"
  }
  initramfs "mkinitcpio" {
    modules  = ["nfsv4"]
    hooks    = ["base", "udev", "net", "netnfs4", "nbd", "filesystems"]
    binaries = ["/usr/bin/mount.nfs4"]
  }

  hostname = "arch"
  timezone = "UTC"
  locale   = "en_US.UTF-8"
  keymap   = "us"

  filesystem "btrfs" {
    size     = "8GiB" # sparse
    compress = "lzo"
  }
}

# The page's second line of exports; the first, with fsid=0, is there by itself.
export "nfs" "arch" {
  image   = image.arch
  path    = "/arch"
  mode    = "read-only"
  allow   = [subnet.lan]
  options = ["no_root_squash", "no_subtree_check"]
}

entry "nfs" {
  title = "Arch Linux"
  image = image.arch
  root  = export.nfs.arch
  args  = ["quiet", "add_efi_memmap"]

  mount "/var/log" {
    type    = "tmpfs"
    options = ["nodev", "nosuid"]
  }
  mount "/var/spool/cups" {
    type    = "tmpfs"
    options = ["nodev", "nosuid"]
  }
  state "/var/lib/puppet" {
    per = "host"
  }
  state "/etc/puppet/ssl" {
    per = "host"
  }
}

# What grub-mknetdir makes, for BIOS and for UEFI, with the page's two menu entries.
bootloader "grub" "menu" {
  entries = [entry.nfs, entry.arch]
  timeout = 5
}

# What the page has instead for machines with BIOS.
bootloader "pxelinux" "menu" {
  entries = [entry.nfs, entry.arch]
  timeout = 5
}
