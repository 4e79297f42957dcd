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
  tls   = "required"
}

export "nbd" "plain" {
  image = image.debian
  tls   = "offered"
}

entry "secured" {
  image = image.debian
  root  = export.nbd.debian
}

entry "plain" {
  image = image.debian
  root  = export.nbd.plain
}
