mac = "52:54:00:00:00:01"

server = "main"

image "arch" {
  debootstrap = "bookworm"
  hostname {}
  filesystem "squashfs" {}
}

locals {
  block {}
}
