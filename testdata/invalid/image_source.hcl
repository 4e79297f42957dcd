image "none" {
  filesystem "squashfs" {}
}

image "both" {
  debootstrap {
    suite = "bookworm"
  }
  tar {
    path = "root.tar"
  }
  filesystem "squashfs" {}
}

image "nofs" {
  debootstrap {
    suite = "bookworm"
  }
}
