variable "password" {
  sensitive = true
  default   = "hunter2 and, more\\"
}

host "a" {
  mac = "52:54:00:00:00:01"
  mount "/srv" {
    type    = "cifs"
    device  = var.password
    options = ["password=${var.password}"]
  }
  file "/etc/a" {
    source = var.password
  }
  file "/etc/b" {
    content     = var.password
    permissions = var.password
    owner       = var.password
  }
  state "/var/lib/a" {
    per = var.password
  }
}
