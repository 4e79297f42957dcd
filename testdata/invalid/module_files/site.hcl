module "rack" {
  source = "./rack"
}
