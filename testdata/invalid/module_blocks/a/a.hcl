server "main" {
  address = "10.0.0.1"
}

policy {
  max_delete = 1
}

moved {
  from = host.a
  to   = host.b
}

subnet "lan" {
  server = server.main
  cidr   = "10.0.0.0/24"
}
