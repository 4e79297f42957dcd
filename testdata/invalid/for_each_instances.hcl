server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/24"
}

locals {
  table = {
    a = { mac = "52:54:00:00:00:01", address = "10.0.0.11" }
    b = { mac = "52:54:00:00:00:0g", address = "10.0.0.12" }
    c = { mac = "52:54:00:00:00:03" }
    d = { mac = "52:54:00:00:00:01", address = "10.0.0.13" }
    e = { mac = "52:54:00:00:00:05", address = "10.0.1.14" }
    f = { mac = "52:54:00:00:00:06", address = "10.0.0.11" }
  }
}

host "ws" {
  for_each = local.table
  mac      = each.value.mac
  address  = each.value.address
}
