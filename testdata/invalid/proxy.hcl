server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr                = "10.0.0.0/24"
  mode                = "proxy"
  authoritative       = true
  bootp               = true
  routers             = ["10.0.0.254"]
  domain_name_servers = ["10.0.0.254"]
  domain_name         = "example.org"
  ntp_servers         = ["10.0.0.254"]
  interface_mtu       = 1500
  lease_time          = "10m"
}

subnet "fine" { # what means nothing may stay
  cidr                = "10.0.1.0/24"
  mode                = "proxy"
  authoritative       = false
  bootp               = false
  routers             = []
  domain_name_servers = null
  next_server         = "10.0.0.1"
}
