image "a" {
  tar {
    path   = "roots/root.tar"
    sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
  }
  filesystem "squashfs" {}
}

image "b" {
  tar {
    path = "roots/rot.tar"
  }
  filesystem "squashfs" {}
}

image "c" {
  tar {
    path   = "roots/root.tar"
    sha256 = "abc"
  }
  filesystem "squashfs" {}
}

image "d" {
  tar {
    path = "roots"
  }
  filesystem "squashfs" {}
}
