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

entry "own" {
  image = image.own
  root  = export.nbd.own
  mount "/" { # is said on the kernel line
    options = ["noatime"]
  }
  state "/var/lib/puppet" {}
  mount "/var/log" {
    type = "tmpfs"
  }
}

entry "plain" {
  image = image.own
  root  = export.nbd.own
}

entry "made" {
  image = image.made
  root  = export.nbd.made
}

bootloader "ipxe" "own" {
  entries = [entry.plain, entry.made]
}

bootloader "ipxe" "made" {
  entries = [entry.made, entry.plain]
}

subnet "own" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.own
}

subnet "made" {
  cidr = "10.0.1.0/24"
  boot = [bootloader.ipxe.own, bootloader.ipxe.made]
}

group "entry" {
  entry = entry.plain
  file "/etc/motd" {
    content = "x"
  }
}

group "boot" {
  boot = bootloader.ipxe.own
  file "/etc/motd" {
    content = "x"
  }
}

host "group" {
  mac   = "52:54:00:00:00:01"
  group = group.boot
}

host "subnet" {
  for_each = { a = "52:54:00:00:00:02", b = "52:54:00:00:00:03" }
  mac      = each.value
  address  = each.key == "a" ? "10.0.0.2" : "10.0.0.3"
  file "/etc/motd" {
    content = each.key
  }
}

host "entry" {
  mac   = "52:54:00:00:00:04"
  entry = entry.plain
  mount "/var/log" {
    type = "tmpfs"
  }
}

host "chooses" { # which bootloader counts is up to its firmware
  mac     = "52:54:00:00:00:05"
  address = "10.0.1.2"
  file "/etc/motd" {
    content = "x"
  }
}

host "roams" { # may come up where it is made
  mac = "52:54:00:00:00:06"
  file "/etc/motd" {
    content = "x"
  }
}

host "other" {
  mac     = "52:54:00:00:00:07"
  address = "10.0.0.7"
  group   = group.boot
  entry   = entry.made
  file "/etc/motd" {
    content = "x"
  }
}
