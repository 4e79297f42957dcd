module "a" {
  source   = "./a"
  for_each = { for i in range(1001) : "k${i}" => i }
}
