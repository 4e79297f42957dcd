server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/24"
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

locals {
  long = join("", [for i in range(1499) : "x"])
  half = join("", [for i in range(800) : "x"])
}

entry "long" {
  image = image.arch
  root  = export.nbd.arch
  args  = [local.long, "y"]
}

entry "half" {
  image = image.arch
  root  = export.nbd.arch
  args  = [local.half]
}

host "ws" {
  mac   = "52:54:00:00:00:01"
  entry = entry.half
  args  = [local.half]
}
