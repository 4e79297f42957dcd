server "a" {
  address = "10.0.0.1"
  http {
    listen = ":8080"
  }
  nbd {
    listen = "0.0.0.0:8080"
  }
}

server "b" {
  address = "10.0.0.2"
  dhcp {
    listen = "10.0.0.1:67"
  }
  tftp {
    enabled = false
  }
}
