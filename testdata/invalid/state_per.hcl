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

group "lab" {
  state "/var/lib/a" {
    per = "boot"
  }
  state "/var/lib/b" {
    per = "hosts"
  }
  state "/var/lib/c" {
    size = "1GiB"
  }
  state "/var/lib/d" "e" {}
}
