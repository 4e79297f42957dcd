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

locals {
  half = join("", [for i in range(760) : "x"])
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.half
}

entry "half" {
  image = image.debian
  root  = export.nbd.debian
  args  = [local.half]
}

bootloader "ipxe" "half" {
  entries = [entry.half]
}

group "entry" {
  entry = entry.half
  args  = [local.half]
}

group "boot" {
  boot = bootloader.ipxe.half
  args = [local.half]
}

group "subnet" { # the host of it decides
  args = [local.half]
}

host "a" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.21"
  group   = group.subnet
}

host "b" { # told with its group
  mac   = "52:54:00:00:00:02"
  group = group.entry
  args  = ["quiet"]
}

host "c" {
  mac   = "52:54:00:00:00:03"
  entry = entry.half
  args  = [substr(local.half, 0, 700)]
  mount "/" {
    options = ["compress=lzo", "subvol=/roots/debian/bookworm/2026-11-01"]
  }
}
