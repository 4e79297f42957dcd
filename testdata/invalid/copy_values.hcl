image "a" {
  debootstrap {
    suite = "bookworm"
  }
  copy "/etc/a" {
    from        = "/etc/issue"
    permissions = "0000"
  }
  copy "/etc/b" {
    from        = "/etc/issue"
    permissions = "rwx"
    replace     = "old"
  }
  copy "/etc/c" {
    from    = "/etc/issue"
    replace = { "" = "new" }
  }
  copy "/etc/d" {
    from = null
  }
  copy "/etc/e" {
    from    = "/etc/issue"
    replace = { for n in range(200) : "old${n}" => "new" }
  }
  copy "/etc/e" {
    from = "/etc/issue"
  }
  filesystem "squashfs" {}
}
