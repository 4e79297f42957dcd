image "both" {
  oci {
    reference = "registry.example/debian@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  pacstrap {}
  filesystem "squashfs" {}
}
