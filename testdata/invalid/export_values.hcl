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

export "nbd" "a" {
  image = image.debian
  mode  = "copy_on_write"
}

export "nbd" "b" {
  image = image.debian
  keep  = "boot"
}

export "nbd" "c" {
  image = image.debian
  mode  = "copy-on-write"
  keep  = "hosts"
}

export "nbd" "d" {
  image   = image.debian
  path    = "/d"
  clients = ["*"]
  options = ["rw"]
}

export "nbd" "f" {
  image = image.debian
  tls   = "require"
}

export "nfs" "g" {
  image = image.debian
  tls   = "required"
}

export "nfs4" "e" {
  image = image.debian
}
