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

module "abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" {
  source   = "./m"
  for_each = toset(["abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"])
  image    = image.a
}
