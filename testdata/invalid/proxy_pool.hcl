server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  mode = "proxy"
  pool {
    range = "10.0.0.100-10.0.0.199"
  }
}

host "known" { # the other server gives it this one
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.21"
}
