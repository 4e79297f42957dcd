server "main" {
  address = "10.0.0.1"
  nfs {
    enabled = false
  }
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nfs" "debian" {
  image = image.debian
}
