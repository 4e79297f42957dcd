variable "tok" {
  sensitive = true
  default   = "hunter2"
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

export "nbd" "debian" {
  image = image.debian
}

entry "debian" {
  title = "Debian ${var.tok}"
  image = image.debian
  root  = export.nbd.debian
  args  = ["tok=${var.tok}"]
}

group "lab" {
  args = ["quiet", "tok=${var.tok}"]
  mount "/" {
    options = ["tok=${var.tok}"]
  }
  mount "/srv" {
    type    = "cifs"
    device  = "//10.0.0.9/${var.tok}"
    options = ["password=${var.tok}"]
  }
  file "/etc/tok" { # this is the place
    content = var.tok
  }
}

host "a" {
  mac      = "52:54:00:00:00:01"
  hostname = var.tok
  args     = ["tok=${var.tok}"]
}
