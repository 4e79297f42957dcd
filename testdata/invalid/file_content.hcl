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
  file "/a" {}
  file "/b" {
    content = "x"
    source  = "y"
  }
  file "/c" {
    content = null
  }
  file "/d" {
    content = ["x"]
  }
  file "/e" {
    content = entry.debian
  }
  file "/f" {
    symlink = "/a"
  }
  file "/g" {
    content     = "x"
    permissions = "rw-r--r--"
    owner       = "root"
    group       = -1
  }
  file "/h" {
    content     = "x"
    permissions = 0644
    mode        = "0644"
  }
}
