server "main" {
  address = "10.0.0.1"
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

bootloader "grub" "menu" {
  entries = [entry.debian]
}

bootloader "grub" "rescue" {
  entries = [entry.debian]
}

subnet "a" {
  cidr = "10.0.0.0/24"
  boot = bootloader.menu
}

subnet "b" {
  cidr = "10.0.1.0/24"
  boot = bootloader.rescue
}

subnet "c" {
  cidr = "10.0.2.0/24"
  boot = [bootloader.grup.menu, bootloader.grub.menus]
}

subnet "d" {
  cidr = "10.0.3.0/24"
  boot = bootloader.pxelinux.menu
}
