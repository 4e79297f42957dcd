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
  image = "image.arch"
  allow = subnet.lan
}

subnet "lan" {
  cidr        = "10.0.0.0/24"
  domain_name = image.arch
  next_server = server.main
  boot        = "menu"
  lease_time  = "${image.arch}"
}

entry "x" {
  image = 5
  root  = export.nbd.arch
}
