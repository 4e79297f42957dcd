variable "number" {
  validation {
    condition     = can(var.number * 1)
    error_message = "It is a number."
  }
}

variable "entry" {
  default = null
}

locals {
  cidr = cidrsubnet("10.0.0.0/8", 8, var.number)
}

subnet "lan" {
  cidr = local.cidr
}

host "node" {
  for_each = toset(["n"])
  mac      = "52:54:00:00:00:${var.number}"
  entry    = var.entry
  hostname = server.main.address
}

check "number" {
  assert {
    condition     = var.number < 350
    error_message = "Rack ${var.number} has no addresses."
  }
}
