module "one" {
  source = "./pass"
  value  = module.one.value
}

module "a" {
  source = "./pass"
  value  = module.b["k"].value
}

module "b" {
  source   = "./pass"
  for_each = { k = 1 }
  value    = local.a
}

locals {
  a = module.a.value
}

module "keys" {
  source   = "./pass"
  for_each = module.keys
  value    = 1
}
