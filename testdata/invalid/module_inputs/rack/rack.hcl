variable "number" {
  type = number
}

variable "machines" {
  type = map(string)
}

variable "mode" {
  type    = object({ speed = number })
  default = { speed = 1 }
}

locals {
  used = "${var.number} ${length(var.machines)} ${var.mode.speed}"
}
