# var size=4
variable "size" {
  type    = number
  default = 1
  validation {
    condition     = var.size > 0 && var.size <= local.most
    error_message = "The size is between 1 and ${local.most}."
  }
  validation {
    condition     = var.size % 2 == 0
    error_message = "The size is even."
  }
}

locals {
  most = 10
}

server "main" {
  address = "10.0.0.1"
}

check "address" {
  assert {
    condition     = startswith(server.main.address, "10.")
    error_message = "Servers are in 10.0.0.0/8."
  }
  assert {
    condition     = length(host.ws) == var.size
    error_message = "There are ${length(host.ws)} hosts."
  }
}

host "ws" {
  for_each = { for i in range(var.size) : "ws${i}" => i }
  mac      = format("52:54:00:00:00:%02x", each.value)
}
