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
  mount "/a" {}
  mount "/b" {
    type = "tmpfs, really"
  }
  mount "/c" {
    type    = "tmpfs"
    options = ["nodev,nosuid", "size=1 GiB", "", "a\\040b", "mode=0755\n"]
  }
  mount "/d" {
    type = "nfs4"
  }
  mount "/e" {
    type   = "nfs4"
    device = "10.0.0.1:/with space"
  }
  mount "/f" {
    type   = "ext4"
    device = "#sda1"
  }
  mount "/g" {
    type    = "none"
    options = ["bind"]
  }
  mount "/h" {
    type    = "tmpfs"
    options = "nodev"
  }
  mount "/i" {
    type = null
  }
  mount "/j" {
    fstype = "tmpfs"
    dump   = 0
  }
}
