module "b" {
  source   = "./b"
  for_each = { for i in range(100) : "k${i}" => i }
}
