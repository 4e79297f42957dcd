server "main" {
  address = "10.0.0.1"
  tftp {
    enabled = false
  }
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nbd" "debian" {
  image = image.debian
  mode  = "copy-on-write"
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

bootloader "ipxe" "menu" {
  entries = [entry.debian]
}

bootloader "pxelinux" "menu" {
  entries = [entry.debian]
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.menu
}

group "old" {
  boot = bootloader.pxelinux.menu
}

host "member" { # told once, where it is said
  for_each = { a = "52:54:00:00:00:01", b = "52:54:00:00:00:02" }
  mac      = each.value
  group    = group.old
}

host "own" {
  for_each = { a = "52:54:00:00:00:03", b = "52:54:00:00:00:04" }
  mac      = each.value
  boot     = bootloader.pxelinux.menu
}

host "better" { # what it says itself counts
  mac   = "52:54:00:00:00:05"
  group = group.old
  boot  = [bootloader.pxelinux.menu, bootloader.ipxe.menu]
}
