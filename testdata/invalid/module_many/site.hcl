module "rack" {
  source   = "./rack"
  for_each = { for i in range(300) : "r${i}" => i }
  number   = each.value
}
