server "main" {
  address = "10.0.0.1"
}

subnet "ours" {
  cidr = "10.0.0.0/24"
}

subnet "theirs" {
  cidr = "10.0.0.128/25"
  mode = "proxy"
}

host "a" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.255"
}
