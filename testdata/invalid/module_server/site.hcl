server "a" {
  address = "10.0.0.1"
}

server "b" {
  address = "10.1.0.1"
}

module "m" {
  source = "./m"
}

module "empty" {
  source = "./none"
  number = 1
}

locals {
  a = module.empty.number
}
