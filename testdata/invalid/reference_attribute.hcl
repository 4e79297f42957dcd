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
  image = image.arch.hostname
}

subnet "lan" {
  cidr        = "10.0.0.0/24"
  next_server = server.main.adress
  routers     = [server.main["x"]]
}
