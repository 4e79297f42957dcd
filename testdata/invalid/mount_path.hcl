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
  mount "var/log" {
    type = "tmpfs"
  }
  mount "/var/../log" {
    type = "tmpfs"
  }
  mount "/var/log/" {
    type = "tmpfs"
  }
  mount "/with space" {
    type = "tmpfs"
  }
  mount "/back\\slash" {
    type = "tmpfs"
  }
  mount "/run/app" {
    type = "tmpfs"
  }
  mount "/var/run/app" {
    type = "tmpfs"
  }
  mount "/var/lock" {
    type = "tmpfs"
  }
  mount "/line\nend" {
    type = "tmpfs"
  }
  mount "" {
    type = "tmpfs"
  }
  mount {
    type = "tmpfs"
  }
}
