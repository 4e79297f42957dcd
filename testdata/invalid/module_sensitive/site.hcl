variable "secret" {
  sensitive = true
  default   = "hunter2"
}

module "a" {
  source   = "./a"
  password = "hunter3"
  plain    = { x = var.secret }
  number   = var.secret
  keys     = { (var.secret) = 1 }
}

module "b" {
  source   = "./a"
  for_each = toset([var.secret])
  password = ["hunter4"]
  plain    = 1
  number   = 1
}
