image "a" {
  debootstrap {
    suite = "bookworm"
  }
  file "/etc/motd" {
    content = "hello"
  }
  copy "/etc/motd" { # the file would be put over it
    from = "/etc/issue"
  }
  copy "/etc/one" {
    from = "/etc/issue"
  }
  copy "/etc/two" { # made of a copy
    from = "/etc/one"
  }
  copy "/etc/three" { # made of a file that comes later
    from = "/etc/motd"
  }
  copy "/etc/one/more" {
    from = "/etc/issue"
  }
  file "/etc/two/more" {
    content = "hello"
  }
  filesystem "squashfs" {}
}
