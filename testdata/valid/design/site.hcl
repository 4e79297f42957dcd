server "main" { # which sockets exist; ports default to the standard ones (tftp { listen = ":6969" } changes one)
  interface = "eth0"
  address   = "10.0.0.1"
}

image "arch" {
  pacstrap {
    mirror   = "https://archive.archlinux.org/repos/2026/11/01/$repo/os/$arch"
    packages = ["base", "linux", "linux-firmware", "mkinitcpio-nfs-utils", "nfs-utils", "grub"]
    files    = ["packages/mkinitcpio-nbd-0.4-1-any.pkg.tar.xz"]
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

export "nbd" "arch" {
  image = image.arch
  mode  = "copy-on-write" # read-only | copy-on-write | read-write (exactly one host)
  keep  = "boot"          # connection (the wiki's copyonwrite) | boot | host
  allow = [subnet.lan]
}

export "nfs" "arch" {
  image   = image.arch
  path    = "/arch" # below the server's pseudo root, the wiki's fsid=0
  mode    = "read-write"
  clients = ["*"]
  options = ["no_root_squash", "no_subtree_check"]
}

entry "arch" { # what to boot
  title = "Arch Linux"
  image = image.arch
  root  = export.nbd.arch # writes the root=, nbdroot= or nfsroot= arguments that the image's initramfs wants
  args  = ["quiet", "add_efi_memmap"]
  mount "/" { # these ride a generated initrd, never the shared image
    type    = "btrfs"
    options = ["rw", "noatime", "compress=lzo"]
  }
  mount "/var/log" {
    type    = "tmpfs"
    options = ["nodev", "nosuid"]
  }
  state "/var/lib/puppet" { # unique storage per machine
    per = "host"
  }
}

bootloader "grub" "menu" { # how it gets there; BIOS and UEFI targets
  entries = [entry.arch]
  timeout = 0
}

subnet "lan" {
  server              = server.main # may be left out while there is one
  cidr                = "10.0.0.0/24"
  authoritative       = true
  bootp               = true
  routers             = ["10.0.0.1"]
  domain_name_servers = ["10.0.0.1"]
  next_server         = server.main.address
  lease_time          = "10m"
  boot                = bootloader.grub.menu # the file follows the client architecture (option 93); boot_file_name = { "7" = "…" } says it by hand
  pool {
    range = "10.0.0.128-10.0.0.254"
  }
}

host "render01" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.21"
  entry   = entry.arch # default entry; boot = bootloader… beats group, beats subnet
  args    = ["systemd.log_level=debug"]
  file "/etc/motd" {
    content     = "render node"
    permissions = "0644"
  }
}
