image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  initramfs {
    hooks    = ["base"]
    binaries = ["/usr/bin/mount.nfs4"]
  }
  filesystem "squashfs" {}
}
