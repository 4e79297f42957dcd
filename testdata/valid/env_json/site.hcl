# env eu-1.b
variable "args" {
  type = list(string)
}

group "all" {
  args = var.args
}
