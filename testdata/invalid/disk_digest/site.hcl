image "a" {
  disk {
    path   = "disk.raw"
    sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  filesystem "squashfs" {}
}
