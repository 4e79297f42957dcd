# var given=x
# var number=many
# var list=["a", b]
# var object={ a = [] }

variable "none" {}

variable "number" {
  type = number
}

variable "list" {
  type = list(string)
}

variable "object" {
  type = object({ a = string, b = optional(number, 3) })
}

variable "type" {
  type    = strin
  default = 1
}

variable "quoted" {
  type    = "string"
  default = "x"
}

variable "default" {
  type    = list(number)
  default = ["a"]
}

variable "refers" {
  default = local.x
}

variable "flag" {
  default   = "x"
  sensitive = "maybe"
}

variable "checked" {
  default = "x"
  validation {
    condition = true
  }
}

locals {
  x = var.nmber
}
