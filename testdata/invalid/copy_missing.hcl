image "a" {
  debootstrap {
    suite = "bookworm"
  }
  copy "/etc/a" {
    replaces = { "old" = "new" }
  }
  copy {
    from = "/etc/issue"
  }
  filesystem "squashfs" {}
}
