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

export "nfs" "debian" {
  image = image.debian
  mode  = "read-write"
}

entry "debian" {
  image = image.debian
  root  = export.nfs.debian
}
