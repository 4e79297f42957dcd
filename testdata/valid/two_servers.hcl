server "a" {
  address = "10.0.0.1"
}

server "b" {
  address   = "10.0.1.1"
  interface = "eth1"
  http {
    listen = "0.0.0.0:80"
  }
}

subnet "a" {
  server = server.a
  cidr   = "10.0.0.0/24"
}

subnet "b" {
  server = server.b
  cidr   = "10.0.1.0/24"
}
