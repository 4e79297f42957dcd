variable "image" {
}

export "nbd" "abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" {
  for_each = toset(["k", "abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"])
  image    = var.image
}
