module "again" {
  source = "./"
}

module "rack" {
  source = "./rack"
}
