server "main" {
  address = "10.0.0.1"
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "squashfs" {}
}

export "nbd" "debian" {
  image = image.debian
  mode  = "read-write"
  allow = [host.a]
}

host "a" {
  mac = "52:54:00:00:00:01"
}
