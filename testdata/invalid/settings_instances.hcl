# A path is the same in every instance, and blamed once; a value is not.

host "ws" {
  for_each = { a = "52:54:00:00:00:01", b = "52:54:00:00:00:02" }
  mac      = each.value
  file "motd" {
    content = each.key
  }
  mount "/srv" {
    type    = "tmpfs"
    options = ["size=${each.key} GiB"]
  }
  file "/etc/motd" {
    content = each.value.motd
  }
}
