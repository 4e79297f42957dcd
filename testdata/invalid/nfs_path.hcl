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

export "nfs" "a" {
  image = image.debian
  path  = "/"
}

export "nfs" "b" {
  image = image.debian
  path  = "srv/b"
}

export "nfs" "c" {
  image = image.debian
  path  = "/srv,c"
}

export "nfs" "d" {
  image = image.debian
  path  = "/srv/../d"
}

export "nfs" "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee" {
  for_each = toset(["kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"])
  image    = image.debian
}
