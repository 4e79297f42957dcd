image "arch" {
  pacstrap {}
  filesystem "xfs" {
    size = "8GiB"
  }
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "zfs" {}
}

image "other" { # what is a format of a disk, and no source
  qcow2 {
    path = "disk.qcow2"
  }
  filesystem "squashfs" {}
}
