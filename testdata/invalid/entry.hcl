server "main" {
  address = "10.0.0.1"
}

image "arch" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

image "other" {
  debootstrap {
    suite = "trixie"
  }
  filesystem "squashfs" {}
}

export "nbd" "other" {
  image = image.other
  mode  = "copy-on-write"
}

entry "arch" {
  image = image.arch
  root  = export.nbd.other
  title = "two\nlines"
  args  = ["quiet", "a\nb", ""]
}

entry "mixed" {
  image = image.arch
  root  = export.nbd.other
}

entry "rootless" {
  image = image.arch
}

entry "nulls" {
  image = null
  root  = null
}

bootloader "ipxe" "empty" {
  entries = []
}

bootloader "ipxe" "timeout" {
  entries = [entry.arch, entry.arch]
  timeout = -1
}
