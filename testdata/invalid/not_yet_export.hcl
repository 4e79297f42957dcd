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

export "nbd" "a" {
  image = image.arch
  mode  = "read-write"
}

export "nbd" "b" {
  image = image.arch
  mode  = "copy-on-write"
  keep  = "host"
}

export "nbd" "c" {
  image = image.arch
  mode  = "copy_on_write"
}

export "nbd" "d" {
  image = image.arch
  keep  = "boot"
}
