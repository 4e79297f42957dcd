# What values may look like: spellings that mean the same become the same.

variable "cidr" {
  default = "10.1.0.0/16"
}

variable "boot" {
  type    = bool
  default = true
}

variable "sizes" {
  type    = map(number)
  default = { small = 64, large = "128" }
}

variable "site" {
  type = object({
    name = string
    tags = optional(list(string), ["lab"])
  })
  default = { name = "north" }
}

variable "open" {
  type    = any
  default = { list = ["a", 1, true, null] }
}

# var cidr=10.1.0.0/16
# var sizes={ small = 65, large = 129 }

server "main" {
  address = "10.1.0.1"
  dhcp {
    enabled = "false"
  }
}

subnet "lan" {
  cidr          = var.cidr
  authoritative = var.boot
  lease_time    = "1d2h3m4s"
  domain_name   = "${var.site.name}.example"
  interface_mtu = "9000"
  boot_file_name = {
    0 = "undionly.kpxe"
    7 = null
  }
  pool {
    range = "10.1.1.0 - 10.1.1.255"
  }
}

image "a" {
  debootstrap {
    suite = "bookworm"
  }
  mask = []
  filesystem "ext4" {
    size = "2048MiB"
  }
  file "/etc/sizes" {
    content = join(" ", [for k, v in var.sizes : "${k}=${v}"])
  }
  file "/etc/tags" {
    content = try(join(",", var.site.tags), "none")
  }
  file "/etc/empty" {
    content = ""
  }
}

host "a" {
  mac      = "5254.0000.0001"
  address  = null
  hostname = "node-1"
}
