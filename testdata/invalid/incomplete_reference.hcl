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
  image = image
}

entry "arch" {
  image = image.arch
  root  = export.arch
}

entry "b" {
  image = image.arch
  root  = export.nfs.arch
}

entry "c" {
  image = image.arch
  root  = export
}

entry "d" {
  image = image.arch
  root  = export.nbd
}

locals {
  v = var
  e = each.key
  f = eech.key
  g = group.lab
}
