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
  mode  = "read-write"
  allow = [host.a]
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

bootloader "ipxe" "menu" {
  entries = [entry.debian]
}

subnet "lan" { # any machine there may ask what to boot
  cidr = "10.0.0.0/24"
  mode = "proxy"
  boot = bootloader.ipxe.menu
}

host "a" {
  mac = "52:54:00:00:00:01"
}
