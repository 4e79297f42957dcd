module "rack" {
  source   = "."
  for_each = {}
}
