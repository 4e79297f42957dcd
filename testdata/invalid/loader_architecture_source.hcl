server "main" {
  address = "10.0.0.1"
}

image "arch" {
  pacstrap {
    arch = "aarch64"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

image "container" {
  oci {
    reference = "registry.example/debian@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    platform  = "linux/s390x"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nbd" "root" {
  for_each = { arch = image.arch, container = image.container }
  image    = each.value
}

entry "boot" {
  for_each = { arch = image.arch, container = image.container }
  image    = each.value
  root     = export.nbd.root[each.key]
}

bootloader "pxelinux" "menu" {
  entries = [entry.boot["arch"]]
}

bootloader "ipxe" "menu" {
  entries = [entry.boot["container"]]
}
