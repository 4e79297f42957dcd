variable "number" {}

locals {
  wrong = 1 / (var.number - var.number)
}

host "a" {
  mac = "52:54:00:00:${var.number}"
}

group "b" {
  args = [file("missing-${var.number}")]
}
