module "site" {
  source = "./site"
}
