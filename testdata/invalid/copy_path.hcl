image "a" {
  debootstrap {
    suite = "bookworm"
  }
  copy "etc/motd" {
    from = "/etc/issue"
  }
  copy "/etc/a" {
    from = "etc/issue"
  }
  copy "/etc/b" {
    from = "/etc/../etc/issue"
  }
  copy "/etc/c" {
    from = "/etc/c"
  }
  filesystem "squashfs" {}
}
