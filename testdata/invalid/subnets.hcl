server "main" {
  address = "10.0.0.1"
}

subnet "a" {
  cidr    = "10.0.0.0/16"
  routers = ["10.1.0.1", "10.0.0.0"]
}

subnet "b" {
  cidr = "10.0.4.0/24"
}

subnet "c" {
  cidr = "10.2.0.1/24"
}

subnet "d" {
  cidr = "10.3.0.0/31"
}

subnet "e" {
  cidr = "2001:db8::/64"
}

subnet "f" {
  cidr = "10.0.200.0/24"
}
