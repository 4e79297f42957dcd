image "a" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "squashfs" {}

  file "etc/motd" {
    content = "x"
  }
  file "/etc/../motd" {
    content = "x"
  }
  file "/etc/motd/" {
    content = "x"
  }
  file "/none" {}
  file "/two" {
    content = "x"
    source  = "motd"
  }
  file "/missing" {
    source = "motd"
  }
  file "/out" {
    source = "../motd"
  }
  file "/abs" {
    source = "/etc/passwd"
  }
  file "/mode" {
    content     = "x"
    permissions = "rw-r--r--"
  }
  file "/owner" {
    content = "x"
    owner   = "root"
  }
  file "/link" {
    symlink     = "/mode"
    permissions = "0777"
  }
  file "/etc/dir" {
    content = "x"
  }
  file "/etc/dir/file" {
    content = "x"
  }
  file "/null" {
    content = null
  }
}
