module "rack" {
  source   = "./rack"
  for_each = toset(["north"])
}

moved {
  from = group.a
  to   = module.rack["noth"].group.a
}

moved {
  from = group.b
  to   = module.rack["north"].group.b
}

moved {
  from = module.rack["north"].group.a
  to   = group.c
}

moved {
  from = module.rack.group.a
  to   = module.rack["north"].group.many["x"]
}

moved {
  from = group.d
  to   = module.rack["north"].group.many["z"]
}

group "c" {}
