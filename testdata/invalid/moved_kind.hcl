group "a" {}

bootloader "ipxe" "menu" {
  entries = []
}

moved {
  from = host.a
  to   = group.a
}

moved {
  from = bootloader.grub.menu
  to   = bootloader.ipxe.menu
}

moved {
  from = host.x
  to   = host.x
}
