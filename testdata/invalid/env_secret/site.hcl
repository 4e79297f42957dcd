# env lab
variable "password" {
  type      = list(string)
  sensitive = true
}

variable "token" {
  sensitive = true
}

variable "number" {
  type      = number
  sensitive = true
}
