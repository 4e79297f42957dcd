server "main" {
  address = "10.0.0.1"
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nbd" "debian" {
  image = image.debian
  mode  = "copy-on-write"
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

# Every attribute on the types that have no use for it.

bootloader "ipxe" "menu" {
  entries     = [entry.debian]
  serial      = "0,115200"
  secure_boot = false
}

bootloader "grub" "menu" {
  entries  = [entry.debian]
  fallback = "restart"
}

bootloader "pxelinux" "menu" {
  entries     = [entry.debian]
  secure_boot = true
  fallback    = "local-disk"
}

bootloader "pxelinux" "nothing" { # says nothing, so nothing is wrong
  entries     = [entry.debian]
  secure_boot = null
  fallback    = null
}
