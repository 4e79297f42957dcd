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

export "nbd" "arch" {
  image = image.arhc
}

entry "arch" {
  image = image.debian
  root  = export.nbd.ach
}

bootloader "ipxe" "menu" {
  entries = [entry.arch, entry.rescue]
}

host "ws" {
  mac  = "52:54:00:00:00:01"
  boot = bootloader.ipxe.menus
}
