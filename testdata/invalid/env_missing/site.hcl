# env prodction
variable "name" {}
