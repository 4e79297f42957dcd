# var token=hunter2

variable "token" {
  sensitive = true
}

variable "pin" {
  type      = number
  default   = "hunter2"
  sensitive = true
}

server "main" {
  address = var.token
}

locals {
  n = parseint(var.token, 10)
}

host "a" {
  for_each = toset([var.token])
  mac      = "52:54:00:00:00:01"
}

host "b" {
  mac  = "52:54:00:00:00:02"
  args = ["ok", "${var.token}\n"]
}
