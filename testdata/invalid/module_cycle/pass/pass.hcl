variable "value" {}

locals {
  value = var.value
}

output "value" {
  value = local.value
}
