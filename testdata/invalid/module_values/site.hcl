server "main" {
  address = "10.0.0.1"
}

module "rack" {
  source   = "./rack"
  for_each = { a = 1, b = 300, c = "x" }
  number   = each.value
}

module "single" {
  source = "./rack"
  number = 400
  entry  = server.main
}
