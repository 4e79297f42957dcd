image "arch" {
  pacstrap {
    packages = ["base"]
  }
  oci {}
  copy "/usr/lib/initcpio/hooks/netnfs4" {
    from = "/usr/lib/initcpio/hooks/net"
  }
  initramfs "mkinitcpio" {
    modules = ["nfsv4"]
  }
  filesystem "xfs" {
    size = "8GiB"
  }
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  initramfs {
    hooks = ["base"]
  }
  filesystem "zfs" {}
}
