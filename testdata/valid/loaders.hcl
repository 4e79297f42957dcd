# Every type of bootloader, and several on one subnet.

server "main" {
  address = "10.0.0.1"
}

server "quiet" { # no TFTP: firmware that boots over HTTP
  address = "10.1.0.1"
  tftp {
    enabled = false
  }
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "btrfs" {
    size     = "2GiB"
    label    = "a-label-with-more-than-16-characters"
    compress = "zstd"
  }
}

image "plain" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "btrfs" {
    size = "109MiB"
  }
}

image "arm" {
  debootstrap {
    suite = "bookworm"
    arch  = "arm64"
  }
  filesystem "squashfs" {}
}

export "nbd" "root" {
  for_each = { debian = image.debian, plain = image.plain, arm = image.arm }
  server   = server.main
  image    = each.value
}

entry "boot" {
  for_each = { debian = image.debian, plain = image.plain, arm = image.arm }
  image    = each.value
  root     = export.nbd.root[each.key]
}

bootloader "ipxe" "defaults" {
  entries = [entry.boot["debian"], entry.boot["arm"]]
}

bootloader "ipxe" "all" {
  entries  = [entry.boot["debian"]]
  timeout  = 3
  protocol = "http"
  fallback = "local-disk"
}

bootloader "grub" "defaults" {
  entries = [entry.boot["debian"], entry.boot["plain"]]
}

bootloader "grub" "all" {
  entries     = [entry.boot["debian"]]
  timeout     = 3
  protocol    = "tftp"
  serial      = "0,115200"
  secure_boot = true
}

bootloader "pxelinux" "defaults" {
  entries = [entry.boot["debian"]]
}

bootloader "pxelinux" "all" {
  entries     = [entry.boot["debian"]]
  timeout     = 3
  protocol    = "http"
  serial      = "3,9600"
  secure_boot = null
}

subnet "one" {
  server = server.main
  cidr   = "10.0.0.0/24"
  boot   = bootloader.grub.all
}

subnet "list_of_one" {
  server = server.main
  cidr   = "10.0.1.0/24"
  boot   = [bootloader.grub.all]
}

subnet "several" { # in this order
  server = server.main
  cidr   = "10.0.2.0/24"
  boot   = [bootloader.pxelinux.defaults, bootloader.grub.defaults, bootloader.ipxe.all]
}

subnet "chosen" {
  server = server.main
  cidr   = "10.0.3.0/24"
  boot   = [for name, loader in { grub = bootloader.grub.all, ipxe = bootloader.ipxe.all } : loader if name != "grub"]
}

subnet "nobody" {
  server = server.main
  cidr   = "10.0.4.0/24"
  boot   = []
}

subnet "http" {
  server = server.quiet
  cidr   = "10.1.0.0/24"
  boot   = [bootloader.pxelinux.all, bootloader.ipxe.all]
}

host "a" {
  mac  = "52:54:00:00:00:01"
  boot = [bootloader.pxelinux.all, bootloader.ipxe.defaults]
}

host "b" {
  mac  = "52:54:00:00:00:02"
  boot = null
}
