# env lab
variable "password" {
  sensitive = true
}
