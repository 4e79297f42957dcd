image "twice" {
  pacstrap {}
  initramfs {
    hooks = ["base", "udev", "net", "udev"]
  }
  filesystem "squashfs" {}
}

image "empty" {
  pacstrap {}
  initramfs "mkinitcpio" {
    hooks = []
  }
  filesystem "squashfs" {}
}

image "names" {
  pacstrap {}
  initramfs "dracut" {
    hooks    = ["nbd nfs"]
    binaries = ["usr/bin/x", "/usr/../bin/x"]
    modules  = ["e1000e.ko"]
    compress = "zip"
  }
  filesystem "squashfs" {}
}
