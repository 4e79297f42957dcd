# The client installation of a Debian: debootstrap for pacstrap, NBD alone for NFS.

image "arch" { # called so that everything else is as in examples/archwiki
  debootstrap {
    suite    = "bookworm"
    packages = ["linux-image-amd64", "systemd-sysv", "udev", "dbus", "iproute2", "kmod", "btrfs-progs", "locales", "console-setup"]
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

bootloader "grub" "menu" {
  entries = [entry.arch]
}

bootloader "pxelinux" "menu" {
  entries = [entry.arch]
}
