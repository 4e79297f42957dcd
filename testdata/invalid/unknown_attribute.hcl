server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/24"
}

host "ws" {
  mac    = "52:54:00:00:00:01"
  adress = "10.0.0.9"
}
