# A path is a label: it is text, the same for every machine.

host "ws" {
  for_each = { a = "52:54:00:00:00:01", b = "52:54:00:00:00:02" }
  mac      = each.value
  file "/etc/${each.key}" {
    content = each.key
  }
}
