# env lab
variable "routers" {
  type = list(string)
}

variable "count" {
  type    = number
  default = 1
}

variable "name" {}
