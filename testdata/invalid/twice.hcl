server "main" {
  address = "10.0.0.1"
}

server "main" {
  address = "10.0.0.2"
}

locals {
  a = 1
}

locals {
  a = 2
}

variable "x" {
  default = "1"
}

variable "x" {
  default = "2"
}

image "arch" {
  debootstrap {
    suite = "bookworm"
  }
  debootstrap {
    suite = "trixie"
  }
  file "/etc/motd" {
    content = "a"
  }
  file "/etc/motd" {
    content = "b"
  }
  filesystem "squashfs" {}
}
