server "main" {
  address = "192.0.2.1"
}
