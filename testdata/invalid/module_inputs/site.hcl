module "rack" {
  source  = "./rack"
  nummer  = 1
  machine = {}
  ports {
    first = 1
  }
}

module "typed" {
  source   = "./rack"
  number   = "one"
  machines = ["a"]
  mode     = { speed = "fast" }
}
