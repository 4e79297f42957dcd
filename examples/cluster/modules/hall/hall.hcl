# A hall: a network behind a relay, and its racks.

variable "number" {
  type        = number
  description = "second byte of the hall's addresses"
  validation {
    condition     = var.number > 40 && var.number < 255
    error_message = "Halls have 10.41 to 10.254; 10.40 is the servers'."
  }
}

variable "nodes" {
  type = list(map(string))
}

variable "boot" {
  description = "bootloader of the nodes"
}

variable "name_server" {}

locals {
  cidr  = "10.${var.number}.0.0/16"
  racks = distinct([for n in var.nodes : n.rack])
}

# The relay agent (a router's "ip helper-address 10.40.0.1") is at .0.1. Its address in
# the request (giaddr) tells this subnet from the others.
subnet "nodes" {
  cidr                 = local.cidr
  authoritative        = true
  routers              = [cidrhost(local.cidr, 1)]
  domain_name_servers  = [var.name_server]
  domain_name          = "cluster.example"
  ntp_servers          = [var.name_server]
  lease_time           = "12h"
  boot                 = var.boot
  router_advertisement = false # the hall's router is asked, which is not this server

  pool {
    range = "10.${var.number}.255.1-10.${var.number}.255.254" # nodes that nobody wrote down yet
  }
}

module "rack" {
  source   = "./rack"
  for_each = toset(local.racks)
  rack     = each.key
  nodes    = { for n in var.nodes : n.name => n if n.rack == each.key }
}

check "addresses" {
  assert {
    condition     = alltrue([for n in var.nodes : startswith(n.address, "10.${var.number}.")])
    error_message = "A node of nodes.csv has an address of another hall."
  }
}

output "subnet" {
  value = subnet.nodes
}

output "nodes" {
  value = flatten([for r in module.rack : r.nodes])
}
