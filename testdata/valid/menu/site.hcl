server "main" {
  address = "10.0.0.1"
}

image "own" {
  tar {
    path = "root.tar"
  }
  initramfs "none" {}
  filesystem "squashfs" {}
}

image "made" {
  tar {
    path = "root.tar"
  }
  filesystem "squashfs" {}
}

export "nbd" "own" {
  image = image.own
}

export "nbd" "made" {
  image = image.made
}

entry "plain" {
  image = image.own
  root  = export.nbd.own
}

entry "made" {
  image = image.made
  root  = export.nbd.made
}

bootloader "ipxe" "menu" {
  entries = [entry.plain, entry.made]
  timeout = 5
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.menu
}

group "plain" { # by default; the menu has another
  entry = entry.plain
  state "/var/lib/a" {}
}

host "chooses" {
  mac = "52:54:00:00:00:01"
  state "/var/lib/b" {}
}

host "member" {
  mac   = "52:54:00:00:00:02"
  group = group.plain
}
