image "debian" {
  oci {
    reference = "docker.io/library/debian:12"
  }
  filesystem "squashfs" {}
}
