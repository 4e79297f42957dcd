server {
  address = "10.0.0.1"
}

export "nbd" {
  image = image.arch
}

host "a" "b" {
  mac = "52:54:00:00:00:01"
}

bootloader "menu" {}

subnet "lan" {
  cidr = "10.0.0.0/24"
  pool "a" {
    range = "10.0.0.1-10.0.0.2"
  }
}
