module "Rack_1" {
  source = "./a"
}

module "rack" {
  source   = "./a"
  for_each = toset(["north-1", "South", "a.b"])
}

module "list" {
  source   = "./a"
  for_each = ["a"]
}

module "rack" {
  source = "./a"
}

module "a" "b" {
  source = "./a"
}

module {
  source = "./a"
}
