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

export "nbd" "debian" { # the page's copyonwrite = false, with a pool
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

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.menu
  pool {
    range = "10.0.0.100-10.0.0.199"
  }
}

host "a" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.21"
}
