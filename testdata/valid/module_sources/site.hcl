server "main" {
  address = "10.0.0.1"
}

module "rack" {
  for_each = toset(["a", "b"])
  source   = "./rack"
  key      = each.key
}
