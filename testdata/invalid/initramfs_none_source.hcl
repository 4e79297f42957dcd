image "arch" {
  pacstrap {}
  initramfs "none" {
    hooks    = ["base"]
    binaries = ["busybox"]
  }
  filesystem "squashfs" {}
}
