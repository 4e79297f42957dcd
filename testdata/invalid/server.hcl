server "a" {
  address   = "0.0.0.0"
  interface = "eth0/1"
  tftp {
    listen = "6969"
  }
  http {
    listen = ":0"
  }
  nbd {
    listen  = "[::]:10809"
    enabled = 3
  }
}

server "b" {
  address = "host.example"
}
