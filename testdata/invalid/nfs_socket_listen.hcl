server "main" {
  address = "10.0.0.1"
  nfs {
    listen = "0.0.0.0:80"
  }
}
