server "main" {}

host "ws" {
  address = "10.0.0.9"
}

subnet "lan" {}
