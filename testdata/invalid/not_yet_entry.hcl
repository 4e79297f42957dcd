server "main" {
  address = "10.0.0.1"
}

image "arch" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nbd" "arch" {
  image = image.arch
  mode  = "copy-on-write"
}

entry "arch" {
  image = image.arch
  root  = export.nbd.arch
  mount "/" {
    type = "btrfs"
  }
  state "/var/lib/puppet" {
    per = "host"
  }
}

host "ws" {
  mac   = "52:54:00:00:00:01"
  group = group.lab
  file "/etc/motd" {
    content = "x"
  }
}
