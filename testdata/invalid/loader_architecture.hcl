server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = [bootloader.pxelinux.menu, bootloader.ipxe.menu]
}

image "arm" {
  debootstrap {
    suite = "bookworm"
    arch  = "arm64"
  }
  filesystem "squashfs" {}
}

image "power" {
  debootstrap {
    suite = "bookworm"
    arch  = "ppc64el"
  }
  filesystem "squashfs" {}
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "squashfs" {}
}

export "nbd" "all" {
  for_each = { arm = image.arm, power = image.power, debian = image.debian }
  image    = each.value
}

entry "all" {
  for_each = { arm = image.arm, power = image.power, debian = image.debian }
  image    = each.value
  root     = export.nbd.all[each.key]
}

bootloader "pxelinux" "menu" {
  entries = [entry.all["debian"], entry.all["arm"]]
}

bootloader "ipxe" "menu" {
  entries = [entry.all["arm"]]
}

bootloader "grub" "menu" {
  entries = [entry.all["power"]]
}

group "boards" {
  entry = entry.all["arm"]
  boot  = bootloader.pxelinux.menu
}

host "board" {
  for_each = { a = "52:54:00:00:00:01", b = "52:54:00:00:00:02" }
  mac      = each.value
  group    = group.boards
}

host "power" {
  mac     = "52:54:00:00:00:03"
  address = "10.0.0.3"
  entry   = entry.all["power"]
}

host "fine" { # by iPXE
  mac     = "52:54:00:00:00:04"
  address = "10.0.0.4"
  entry   = entry.all["arm"]
}
