locals {
  a = file("../motd")
  b = file("motd")
  c = templatefile("motd.tmpl", {})
  d = templatefile("wrong.tmpl", {})
}

image "a" {
  tar {
    path = "root.tar"
  }
  file "/etc/motd" {
    source = "/motd"
  }
  filesystem "squashfs" {}
}

group "a" {
  file "/etc/motd" {
    source = "motds"
  }
}
