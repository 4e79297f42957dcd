image "a" {
  disk {
    url       = "ftp://images.example/disk.raw"
    sha256    = "0123"
    format    = "qcow"
    partition = 1000
  }
  filesystem "squashfs" {}
}

image "b" {
  disk {
    url    = "https://me:secret@images.example/disk.raw"
    sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  filesystem "squashfs" {}
}

image "c" {
  disk {
    url    = "https://images.example/disk.qcow2"
    sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  filesystem "squashfs" {}
}
