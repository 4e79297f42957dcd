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

bootloader "grub" "a" {
  entries     = [entry.debian]
  protocol    = "nfs"
  serial      = "ttyS0,115200"
  secure_boot = "maybe"
}

bootloader "grub" "b" {
  entries  = [entry.debian]
  protocol = ""
  serial   = "4,115200"
}

bootloader "pxelinux" "c" {
  entries  = [entry.debian]
  protocol = "htp"
  serial   = "0,115201"
}

bootloader "pxelinux" "d" {
  entries = [entry.debian]
  serial  = 115200
}

bootloader "ipxe" "e" {
  entries  = [entry.debian]
  fallback = "localdisk"
  timeout  = "soon"
}

bootloader "syslinux" "f" {
  entries = [entry.debian]
}
