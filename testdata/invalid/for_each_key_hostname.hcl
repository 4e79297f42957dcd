server "main" {
  address = "10.0.0.1"
}

host "ws" {
  for_each = { "a b" = "52:54:00:00:00:01" }
  mac      = each.value
}

host "under_score" {
  mac = "52:54:00:00:00:02"
}
