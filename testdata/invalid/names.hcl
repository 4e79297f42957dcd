image "Arch" {
  debootstrap {
    suite = "bookworm"
  }
}

export "nbd" "a_b" {}

entry "9front" {}

host "ws 1" {}

subnet "lan.1" {}
