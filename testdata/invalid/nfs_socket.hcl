server "main" {
  address = "10.0.0.1"
  nbd {
    listen = ":2049"
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

export "nfs" "debian" { # switches NFS on, on a port that is taken
  image = image.debian
}
