variable "image" {}

export "nbd" "a" {
  image = var.image
}
