module "rack" {
  source = "./rack"
  entry  = entry.none
}
