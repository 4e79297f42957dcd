server "main" {
  address = "10.0.0.1"
}

image "arch" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nbd" "arch" {
  image = image.arch
  mode  = "copy-on-write"
}

entry "arch" {
  image = export.nbd.arch
  root  = image.arch
}

bootloader "ipxe" "menu" {
  entries = [image.arch, entry.arch]
}

subnet "lan" {
  cidr   = "10.0.0.0/24"
  server = image.arch
  boot   = entry.arch
}
