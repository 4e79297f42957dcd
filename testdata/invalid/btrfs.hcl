image "a" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "btrfs" {}
}

image "b" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "btrfs" {
    size     = "64MiB"
    compress = "lz4"
  }
}

image "c" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "btrfs" {
    size     = "1GiB"
    compress = ""
    label    = "no spaces"
  }
}

image "d" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "xfs" {
    size = "1GiB"
  }
}
