module "a" {
  source   = "./a"
  for_each = { for i in range(100) : "k${i}" => i }
}
