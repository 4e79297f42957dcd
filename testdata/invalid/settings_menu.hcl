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

entry "rescue" {
  image = image.debian
  root  = export.nbd.debian
  state "/var/lib/app" {}
}

bootloader "ipxe" "menu" {
  entries = [entry.debian, entry.rescue]
  timeout = 5
}

bootloader "ipxe" "silent" { # nobody can choose
  entries = [entry.debian, entry.rescue]
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.menu
}

host "chooses" {
  mac = "52:54:00:00:00:01"
  file "/var/lib/app/x" {
    content = "x"
  }
}

host "names" { # the default is another one, and the menu the same
  mac   = "52:54:00:00:00:02"
  entry = entry.debian
  mount "/var/lib" {
    type = "tmpfs"
  }
}

host "cannot" {
  mac  = "52:54:00:00:00:03"
  boot = bootloader.ipxe.silent
  file "/var/lib/app/x" {
    content = "x"
  }
}

host "either" { # where its firmware takes the other bootloader, it cannot either
  mac  = "52:54:00:00:00:04"
  boot = [bootloader.ipxe.silent, bootloader.ipxe.menu]
  file "/var/lib/app/x" {
    content = "x"
  }
}
