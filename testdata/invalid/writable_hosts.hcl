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
  mode  = "read-write"
  allow = [host.a]
}

export "nbd" "offered" {
  image = image.debian
  mode  = "read-write"
  allow = [host.a]
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

bootloader "ipxe" "menu" {
  entries = [entry.debian]
}

entry "offered" {
  image = image.debian
  root  = export.nbd.offered
}

entry "shared" {
  image = image.debian
  root  = export.nbd.shared
}

export "nbd" "shared" {
  image = image.debian
}

bootloader "ipxe" "choice" { # with time to choose
  entries = [entry.shared, entry.offered]
  timeout = 5
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.menu
}

group "room" {
  entry = entry.debian
}

host "a" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.21"
  group   = group.room
}

host "ws" {
  for_each = { for n in range(5) : "ws${n}" => n }
  mac      = format("52:54:00:00:01:%02x", each.value)
  address  = cidrhost("10.0.0.0/24", 30 + each.value)
  group    = group.room
}

host "chooses" {
  mac     = "52:54:00:00:00:03"
  address = "10.0.0.23"
  boot    = bootloader.ipxe.choice
}
