image "scheme" {
  oci {
    reference = "https://registry.example/debian@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  filesystem "squashfs" {}
}

image "registry" {
  oci {
    reference = "library/debian@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  filesystem "squashfs" {}
}

image "digest" {
  oci {
    reference = "registry.example/debian@sha256:0123"
  }
  filesystem "squashfs" {}
}

image "name" {
  oci {
    reference = "registry.example/Debian@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  filesystem "squashfs" {}
}

image "platform" {
  oci {
    reference = "registry.example/debian@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    platform  = "linux/amd46"
  }
  filesystem "squashfs" {}
}

image "null" {
  oci {
    reference = null
  }
  filesystem "squashfs" {}
}
