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

entry "files" {
  image = image.debian
  root  = export.nbd.debian
  file "/" {
    content = "x"
  }
  file "etc/motd" {
    content = "x"
  }
  file "/etc/../motd" {
    content = "x"
  }
  file "/etc/fstab" {
    content = "x"
  }
  file "/etc/hostname" {
    content = "x"
  }
  file "/etc/machine-id" {
    content = "x"
  }
  file "/run/x" {
    content = "x"
  }
  file "/proc" {
    content = "x"
  }
  file "/var/run/app/x" {
    content = "x"
  }
  file "/var/lock" {
    content = "x"
  }
  file "/var/running" {
    content = "x"
  }
  file "/etc/motd" {
    content = "x"
  }
  file "/etc/motd" {
    content = "y"
  }
}
