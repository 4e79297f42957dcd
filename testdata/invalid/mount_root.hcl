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

export "nbd" "debian" {
  image = image.debian
  mode  = "copy-on-write"
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

entry "device" {
  image = image.debian
  root  = export.nbd.debian
  mount "/" {
    type    = "btrfs"
    options = ["noatime"]
  }
}

host "a" {
  mac = "52:54:00:00:00:01"
  mount "/" {
    device  = "/dev/nbd0"
    options = ["context=\"system_u\"", "rw,noatime"]
  }
}

host "b" {
  mac = "52:54:00:00:00:02"
  mount "/" {
    options = ["rw"]
  }
  mount "/" {
    options = ["noatime"]
  }
}
