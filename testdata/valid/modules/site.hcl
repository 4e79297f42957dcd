server "main" {
  address = "10.0.0.1"
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}

module "root" {
  source = "./modules/root"
  image  = image.debian
  allow  = [for k, r in module.rack : r.subnet]
}

module "rack" {
  source   = "modules/rack"
  for_each = { north = 1, south = 2 }
  number   = each.value
  boot     = module.root.loaders
  machines = { for m in csvdecode(file("machines.csv")) : m.name => m.mac if m.rack == each.key }
  password = "of ${each.key}"
}

# what a module gives is as good as what is here
host "spare" {
  mac   = "52:54:00:00:00:ff"
  entry = module.root.entry
  boot  = module.root.loaders[0]
  group = module.rack["north"].groups.quiet
  args  = ["racks=${length(module.rack)}", "first=${module.rack[local.first].hosts["n1"].number}"]
}

locals {
  first = "north"
}

moved {
  from = host.n1
  to   = module.rack["north"].host.node["n1"]
}

moved {
  from = subnet.north
  to   = module.rack["north"].subnet.lan
}
