# env lab
variable "name" {
  default = ""
}
