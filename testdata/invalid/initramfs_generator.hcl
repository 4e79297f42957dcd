image "arch" {
  pacstrap {}
  initramfs "mkinitrd" {}
  filesystem "squashfs" {}
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  initramfs "initramfs-tool" {}
  filesystem "squashfs" {}
}
