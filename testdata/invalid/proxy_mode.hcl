server "main" {
  address = "10.0.0.1"
}

subnet "a" {
  cidr = "10.0.0.0/24"
  mode = "relay"
}

subnet "b" {
  cidr = "10.0.1.0/24"
  mode = "prxy"
}

subnet "c" {
  cidr = "10.0.2.0/24"
  mode = true
}
