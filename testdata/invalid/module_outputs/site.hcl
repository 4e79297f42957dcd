module "rack" {
  source = "./rack"
}

module "racks" {
  source   = "./rack"
  for_each = toset(["a", "b"])
}

module "silent" {
  source = "./silent"
}

locals {
  a = module.rack.hosts
  b = module.rack.host.a
  c = module.silent.entry
  d = module.rak.host
  e = module.racks.all
  f = module.rack["a"].all
  g = module.racks["c"].all
  h = module.racks[local.key].all
  i = module
  j = module.racks["a"].host
  k = module.racks[local.key].hots
  l = module.racks[3].all
  m = module.rack.all.none
}

locals {
  key = "A"
}

output "all" {
  value = 1
}
