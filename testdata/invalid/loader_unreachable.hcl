server "http" {
  address = "10.0.0.1"
  tftp {
    enabled = false
  }
}

server "tftp" {
  address = "10.1.0.1"
  http {
    enabled = false
  }
}

server "none" {
  address = "10.2.0.1"
  tftp {
    enabled = false
  }
  http {
    enabled = false
  }
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "squashfs" {}
}

export "nbd" "debian" {
  server = server.http
  image  = image.debian
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

bootloader "ipxe" "any" {
  entries = [entry.debian]
}

bootloader "ipxe" "http" {
  entries  = [entry.debian]
  protocol = "http"
}

bootloader "ipxe" "tftp" {
  entries  = [entry.debian]
  protocol = "tftp"
}

bootloader "grub" "tftp" {
  entries  = [entry.debian]
  protocol = "tftp"
}

bootloader "grub" "secure" {
  entries     = [entry.debian]
  secure_boot = true
}

bootloader "pxelinux" "tftp" {
  entries = [entry.debian]
}

bootloader "pxelinux" "http" {
  entries  = [entry.debian]
  protocol = "http"
}

subnet "a" {
  server = server.http
  cidr   = "10.0.0.0/24"
  boot   = bootloader.pxelinux.http
}

subnet "b" {
  server = server.http
  cidr   = "10.0.1.0/24"
  boot   = [bootloader.pxelinux.tftp, bootloader.grub.tftp, bootloader.grub.secure]
}

subnet "c" {
  server = server.http
  cidr   = "10.0.2.0/24"
  boot   = bootloader.ipxe.tftp
}

subnet "d" {
  server = server.tftp
  cidr   = "10.1.0.0/24"
  boot   = bootloader.ipxe.http
}

subnet "e" {
  server = server.none
  cidr   = "10.2.0.0/24"
  boot   = [bootloader.ipxe.any, bootloader.pxelinux.tftp]
}

subnet "f" { # by iPXE
  server = server.http
  cidr   = "10.0.3.0/24"
  boot   = [bootloader.pxelinux.http, bootloader.ipxe.any]
}

subnet "g" { # what they load is said by hand
  server         = server.none
  cidr           = "10.2.1.0/24"
  boot           = bootloader.ipxe.any
  boot_file_name = { "0" = "other.kpxe" }
}

subnet "h" { # and comes from elsewhere
  server      = server.none
  cidr        = "10.2.2.0/24"
  boot        = bootloader.ipxe.any
  next_server = "10.2.2.9"
}
