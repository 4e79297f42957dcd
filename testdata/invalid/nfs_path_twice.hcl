server "main" {
  address = "10.0.0.1"
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

server "other" { # the paths of two servers are two
  address = "10.1.0.1"
}

export "nfs" "a" {
  server = server.main
  image  = image.debian
}

export "nfs" "b" {
  server = server.main
  image  = image.debian
  path   = "/a"
}

export "nfs" "c" {
  server = server.main
  image  = image.debian
  path   = "/a/b/c"
}

export "nfs" "d" {
  server = server.other
  image  = image.debian
  path   = "/a"
}
