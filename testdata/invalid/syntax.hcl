server "main" {
  address = "10.0.0.1
}

host "a" {
  mac =
}
