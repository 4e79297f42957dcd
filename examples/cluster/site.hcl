# A thousand compute nodes in three halls, behind relays, and the head node.

locals {
  nodes = csvdecode(file("nodes.csv"))
  halls = { a = 41, b = 42, c = 43 } # second byte of the hall's addresses
  head  = "10.40.0.10"
}

server "main" {
  interface = "eth0"
  address   = "10.40.0.1"
}

# The server's own network. The halls have theirs in modules/hall.
subnet "service" {
  cidr                = "10.40.0.0/24"
  authoritative       = true
  routers             = ["10.40.0.254"]
  domain_name_servers = [local.head]
  domain_name         = "cluster.example"
  ntp_servers         = [local.head]
  lease_time          = "1h"
  boot                = bootloader.ipxe.compute
}

host "head" {
  mac     = "52:54:00:40:00:01"
  address = local.head
  boot    = bootloader.ipxe.head
}

module "hall" {
  source      = "./modules/hall"
  for_each    = local.halls
  number      = each.value
  nodes       = [for n in local.nodes : n if n.hall == each.key]
  boot        = bootloader.ipxe.compute
  name_server = local.head
}

check "nodes" {
  assert {
    condition     = length(local.nodes) == length(toset([for n in local.nodes : n.name]))
    error_message = "A name is in nodes.csv twice."
  }
  assert {
    condition     = length(setsubtract([for n in local.nodes : n.hall], keys(local.halls))) == 0
    error_message = "nodes.csv has a node in a hall that there is not."
  }
  assert {
    condition     = length(flatten([for h in module.hall : h.nodes])) == length(local.nodes)
    error_message = "Not every node of nodes.csv has become a host."
  }
}
