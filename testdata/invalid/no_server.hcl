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

export "nbd" "arch" {
  image = image.arch
  mode  = "copy-on-write"
}
