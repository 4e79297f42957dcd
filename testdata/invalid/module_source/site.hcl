module "up" {
  source = "../elsewhere"
}

module "absolute" {
  source = "/etc"
}

module "remote" {
  source = "git::https://git.example/rack.git"
}

module "computed" {
  source = "./${local.folder}"
}

module "missing" {
  source = "./modules/rak"
}

module "file" {
  source = "./site.hcl"
}

module "empty" {
  source = "./modules"
}

module "none" {
}

module "number" {
  source = 3
}

module "inside" {
  source = "./modules/rack/../rack"
}

module "nothing" {
  source = ""
}

locals {
  folder = "modules/rack"
}
