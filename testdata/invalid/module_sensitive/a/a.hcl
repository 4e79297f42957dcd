variable "password" {
  type      = string
  sensitive = true
}

variable "plain" {
  type = map(string)
}

variable "number" {
  type = number
}

variable "keys" {
  default = {}
}

group "a" {
  args = [var.password, "n=${var.number}"]
}

group "b" {
  args = values(var.plain)
}

group "c" {
  for_each = var.plain
  args     = [each.value]
}

group "d" {
  for_each = var.keys
}
