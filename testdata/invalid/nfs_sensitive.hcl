# var secret=hunter2

variable "secret" {
  sensitive = true
}

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

export "nfs" "debian" {
  image   = image.debian
  path    = "/${var.secret}"
  options = ["no_${var.secret}"]
}
