sever "main" {
  address = "10.0.0.1"
}

image "arch" {
  debotstrap {
    suite = "bookworm"
  }
}

kernel "x" {}
