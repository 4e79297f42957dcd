# Beside a DHCP server that is not ours.

variable "mode" {
  default = "proxy"
}

server "main" {
  interface = "eth0"
  address   = "10.0.0.1"
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "squashfs" {}
}

export "nbd" "debian" {
  image = image.debian
  allow = [subnet.theirs]
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

bootloader "grub" "menu" {
  entries = [entry.debian]
}

subnet "theirs" {
  cidr                 = "10.0.0.0/24"
  mode                 = var.mode
  boot                 = bootloader.grub.menu
  boot_file_name       = { "0" = "other.0" }
  next_server          = "10.0.0.1"
  router_advertisement = false
  authoritative        = false
  bootp                = false
  routers              = []
  lease_time           = null
}

subnet "ours" {
  cidr = "10.0.1.0/24"
  mode = "server"
  pool {
    range = "10.0.1.100-10.0.1.199"
  }
}

host "known" { # the other server gives it this one
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.21"
}
