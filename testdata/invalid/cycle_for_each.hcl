host "a" {
  for_each = { for k, h in host.b : k => h }
  mac      = "52:54:00:00:00:01"
}

host "b" {
  for_each = { for k, h in host.a : k => h }
  mac      = "52:54:00:00:00:02"
}
