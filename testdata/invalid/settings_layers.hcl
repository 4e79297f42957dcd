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
  mount "/var/log" {
    type = "tmpfs"
  }
  state "/var/lib/app" {}
}

bootloader "ipxe" "menu" {
  entries = [entry.debian]
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.menu
}

group "lab" {
  state "/var/lib/app/data" {}
  file "/var/log/lab" {
    content = "x"
  }
}

host "ws" { # told once
  for_each = { a = "52:54:00:00:00:01", b = "52:54:00:00:00:02" }
  mac      = each.value
  group    = group.lab
  mount "/var/log" { # takes the place of the entry's
    type    = "tmpfs"
    options = ["nodev"]
  }
}

host "disk" {
  mac   = "52:54:00:00:00:03"
  entry = entry.debian
  mount "/var/lib" {
    type   = "ext4"
    device = "/dev/sda1"
  }
}
