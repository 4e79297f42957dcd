server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr    = "10.0.0.0/24"
  routers = ["10.0.0.254"]
  pool {
    range = "10.0.0.100-10.0.0.199"
  }
  pool {
    range = "10.0.0.150 - 10.0.0.160"
  }
  pool {
    range = "10.0.0.199-10.0.0.210"
  }
  pool {
    range = "10.0.0.250-10.0.1.4"
  }
  pool {
    range = "10.0.0.1-10.0.0.9"
  }
}

subnet "more" {
  cidr = "10.9.0.0/24"
  pool {
    range = "10.9.0.20-10.9.0.10"
  }
  pool {
    range = "10.9.0.30"
  }
  pool {
    range = null
  }
}
