image "a" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {}
}

image "b" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size     = "1GiB"
    compress = "zstd"
  }
}

image "c" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "squashfs" {
    size = "1GiB"
  }
}

image "d" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "20000001B"
  }
}

image "e" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size  = "1MiB"
  }
}

image "f" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size  = "1GiB"
    label = "a label that is too long"
  }
}

image "g" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem {}
}
