server "main" {
  address = local.host
}

locals {
  host = cidrhost(local.net, 1)
  net  = "${server.main.address}/24"
}
