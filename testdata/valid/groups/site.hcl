# What hosts have in common, and what machines do to their root.

variable "password" {
  default   = "hunter2"
  sensitive = true
}

server "main" {
  address = "10.0.0.1"
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "btrfs" {
    size = "8GiB"
  }
}

export "nbd" "debian" {
  image = image.debian
  mode  = "copy-on-write"
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
  args  = ["quiet"]
  mount "/" {
    type    = "btrfs"
    options = ["rw", "noatime", "compress=lzo"]
  }
  mount "/var/log" {
    type    = "tmpfs"
    options = ["nodev", "nosuid"]
  }
  state "/var/lib/puppet" {
    per = "host"
  }
}

bootloader "ipxe" "menu" {
  entries = [entry.debian]
}

bootloader "grub" "menu" {
  entries = [entry.debian]
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.menu
}

group "plain" {}

group "room" {
  for_each = { a = "1", b = "2" }
  entry    = entry.debian
  boot     = [bootloader.grub.menu, bootloader.ipxe.menu]
  args     = ["room=${each.value}"]
  mount "/srv/scratch" {
    type    = "none"
    device  = "/var/tmp"
    options = ["bind"]
  }
  mount "/home" {
    type   = "nfs4"
    device = "10.0.0.1:/home"
  }
  file "/etc/motd" {
    content     = "room ${each.key}\n"
    permissions = "0600"
    owner       = 1000
    group       = "1000"
  }
  file "/etc/keys" {
    source = "keys"
  }
  file "/etc/binary" {
    source = "binary"
  }
  file "/etc/exact" {
    content = join("", [for i in range(64) : "exac"])
  }
  file "/etc/long" {
    content = join("", [for i in range(64) : "long"], ["!"])
  }
  file "/etc/empty" {
    content = ""
  }
  state "/var/lib/app" {}
}

host "ws" {
  for_each = {
    ws01 = { mac = "52:54:00:00:00:01", room = "a" }
    ws02 = { mac = "52:54:00:00:00:02", room = "b" }
  }
  mac   = each.value.mac
  group = group.room[each.value.room]
  file "/etc/motd" { # takes the place of the group's
    content = each.key
  }
  file "/etc/password" {
    content = var.password
  }
  file "/etc/long-password" {
    content = join("", [for i in range(64) : var.password])
  }
}

host "alone" {
  mac   = "52:54:00:00:00:03"
  group = group.plain
  mount "/" { # takes the place of the entry's
    options = ["ro"]
  }
}

host "null" {
  mac   = "52:54:00:00:00:04"
  group = null
}
