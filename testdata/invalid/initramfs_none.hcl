image "a" {
  debootstrap {
    suite = "bookworm"
  }
  initramfs "none" {
    modules = ["nbd"]
  }
  filesystem "squashfs" {}
}
