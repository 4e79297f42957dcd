variable "number" {
  type = number
  validation {
    condition     = var.number < 200
    error_message = "Racks have one byte of the address."
  }
}

variable "boot" {}

variable "machines" {
  type = map(string)
}

variable "password" {
  sensitive = true
}

variable "lease" {
  default = "2h"
}

locals {
  cidr = cidrsubnet("10.0.0.0/8", 16, var.number)
}

subnet "lan" {
  cidr       = local.cidr
  lease_time = var.lease
  boot       = var.boot
  pool {
    range = "${cidrhost(local.cidr, 100)}-${cidrhost(local.cidr, 200)}"
  }
}

group "quiet" {
  args = ["quiet"]
  file "/etc/password" {
    content = templatefile("password.tmpl", { password = var.password })
  }
}

host "node" {
  for_each = var.machines
  mac      = each.value
  address  = cidrhost(local.cidr, module.numbers.of[each.key])
  group    = group.quiet
}

module "numbers" {
  source = "./numbers"
  names  = keys(var.machines)
}

check "room" {
  assert {
    condition     = length(host.node) < 100
    error_message = "The pool begins at .100."
  }
}

output "subnet" {
  value = subnet.lan
}

output "groups" {
  value = { quiet = group.quiet }
}

output "hosts" {
  value = { for k, h in host.node : k => { host = h, number = module.numbers.of[k] } }
}
