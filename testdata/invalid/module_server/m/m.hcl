subnet "lan" {
  cidr = "10.0.0.0/24"
}

variable "source" {
  default = "x"
}

variable {
}
