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

export "nbd" "anybody" {
  image = image.debian
  mode  = "read-write"
}

export "nbd" "subnet" {
  image = image.debian
  mode  = "read-write"
  allow = [host.a, subnet.lan]
}

export "nbd" "hosts" {
  image = image.debian
  mode  = "read-write"
  allow = [host.b, host.a]
}

subnet "lan" {
  cidr = "10.0.0.0/24"
}

host "a" {
  mac = "52:54:00:00:00:01"
}

host "b" {
  mac = "52:54:00:00:00:02"
}
