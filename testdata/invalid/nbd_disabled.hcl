server "a" {
  address = "10.0.0.1"
  nbd {
    enabled = false
  }
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
  image = image.arch
  mode  = "copy-on-write"
}
