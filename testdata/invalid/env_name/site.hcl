# env ../production
variable "name" {}
