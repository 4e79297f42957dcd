server "main" {
  address = "10.0.0.1"
}

image "arch" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nfs" "arch" {
  image = image.arch
}

module "site" {
  source = "./site"
}
