server "main" {
  address = "10.0.0.1"
}

image "a" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}

export "nbd" "rack" {
  for_each = toset(["a"])
  image    = image.a
}

module "rack" {
  source = "./rack"
  image  = image.a
}
