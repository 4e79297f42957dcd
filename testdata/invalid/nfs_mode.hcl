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

export "nfs" "a" {
  image = image.debian
  mode  = "copy-on-write"
}

export "nfs" "b" {
  image = image.debian
  mode  = "read-write"
  keep  = "host"
}

export "nfs" "c" {
  image = image.debian
  mode  = "rw"
}
