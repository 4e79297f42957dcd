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

host "a" {
  mac = "52:54:00:00:00:01"
  state "/var/lib/puppet" {}
  state "/var/lib/puppet/ssl" {}
  state "/srv" {}
  mount "/srv" {
    type = "tmpfs"
  }
  file "/srv" {
    content = "x"
  }
  file "/var/lib/puppet/puppet.conf" {
    content = "x"
  }
  file "/etc/a" {
    content = "x"
  }
  file "/etc/a/b" {
    content = "x"
  }
  state "/etc/a/c" {}
  mount "/etc/a/d" {
    type = "tmpfs"
  }
  mount "/var/log" {
    type = "tmpfs"
  }
  file "/var/log/first" {
    content = "x"
  }
  file "/var/logs" { # lies beside
    content = "x"
  }
}

host "b" {
  mac = "52:54:00:00:00:02"
  mount "/var" {
    type = "tmpfs"
  }
  state "/opt/app" {}
}

host "c" {
  mac = "52:54:00:00:00:03"
  mount "/var/lib/dlreconcile" {
    type   = "ext4"
    device = "/dev/sda1"
  }
  state "/opt/app" {}
}
