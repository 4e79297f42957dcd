server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/24"
}

image "arch" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

host "ws" {
  for_each = { ws01 = "52:54:00:00:00:01", ws02 = "52:54:00:00:00:02" }
  mac      = each.value
}

export "nbd" "a" {
  image = image.arch
  allow = [host.ws]
}

export "nbd" "b" {
  image = image.arch
  allow = [host.ws["ws03"]]
}

export "nbd" "c" {
  image = image.arch
  allow = [host.ws.ws01]
}

export "nbd" "d" {
  image = image.arch
  allow = host.ws
}

export "nbd" "e" {
  image = image.arch
  allow = [for n in ["ws01", "ws10"] : host.ws[n]]
}
