routers = { a = 1 }
counts  = 3
name    = var.count
count   = local.x

server "main" {
  address = "10.0.0.1"
}
