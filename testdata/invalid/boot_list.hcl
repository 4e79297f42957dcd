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

bootloader "grub" "many" {
  for_each = toset(["a", "b"])
  entries  = [entry.debian]
}

subnet "a" {
  cidr = "10.0.0.0/24"
  boot = [bootloader.ipxe.menu, bootloader.ipxe.menu]
}

subnet "b" {
  cidr = "10.0.1.0/24"
  boot = [bootloader.ipxe.menu, entry.debian]
}

subnet "c" {
  cidr = "10.0.2.0/24"
  boot = "bootloader.ipxe.menu"
}

subnet "d" {
  cidr = "10.0.3.0/24"
  boot = bootloader.grub.many
}

subnet "e" {
  cidr = "10.0.4.0/24"
  boot = [bootloader.grub.many]
}

subnet "f" { # nobody boots there
  cidr = "10.0.5.0/24"
  boot = []
}

group "g" {
  boot = []
}

host "h" {
  mac  = "52:54:00:00:00:01"
  boot = [null]
}

host "i" {
  mac  = "52:54:00:00:00:02"
  boot = [true]
}
