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

export "nbd" "none" {
  image = image.debian
  mode  = "copy-on-write"
  limit = "0B"
}

export "nbd" "little" {
  image = image.debian
  mode  = "copy-on-write"
  limit = "64KiB"
}

export "nbd" "number" {
  image = image.debian
  mode  = "copy-on-write"
  limit = "2 GB"
}

export "nbd" "sealed" {
  image = image.debian
  limit = "1GiB"
}

export "nbd" "shared" {
  image = image.debian
  mode  = "read-write"
  allow = [host.a]
  limit = "1GiB"
}

export "nfs" "files" {
  image = image.debian
  limit = "1GiB"
}

host "a" {
  mac     = "52:54:00:00:00:01"
}
