# env lab
# var lease=30m
variable "name" {}

variable "lease" {
  default = "1h"
}

variable "routers" {
  type    = list(string)
  default = []
}

variable "domain" {
  default = "example.net"
}

variable "secret" {
  sensitive = true
}

server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr        = "10.0.0.0/24"
  lease_time  = var.lease
  routers     = var.routers
  domain_name = "${var.name}.${var.domain}"
}

group "all" {
  file "/etc/key" {
    content = var.secret
  }
}
