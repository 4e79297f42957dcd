# The root on a network block device, and what the page writes into the fstab.

export "nbd" "arch" {
  image = image.arch
  mode  = "copy-on-write"
  keep  = "boot" # "connection" is nbd-server's copyonwrite = true
  allow = [subnet.lan]
}

entry "arch" {
  title = "Arch Linux (NBD)"
  image = image.arch
  root  = export.nbd.arch
  args  = ["quiet", "add_efi_memmap"]

  mount "/" {
    type    = "btrfs"
    options = ["rw", "noatime", "discard", "compress=lzo"]
  }
  mount "/var/log" {
    type    = "tmpfs"
    options = ["nodev", "nosuid"]
  }
  mount "/var/spool/cups" {
    type    = "tmpfs"
    options = ["nodev", "nosuid"]
  }

  # What the page does with %H in puppet's unit.
  state "/var/lib/puppet" {
    per = "host"
  }
  state "/etc/puppet/ssl" {
    per = "host"
  }
}
