server "main" {
  address = "10.0.0.1"
}

host "a" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.1.9"
}
