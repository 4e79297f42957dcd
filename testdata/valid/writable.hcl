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

export "nbd" "shared" {
  image = image.debian
}

export "nbd" "own" { # each machine its own
  for_each = { for k, h in local.machines : k => h if h.owner }
  image    = image.debian
  mode     = "read-write"
  allow    = [host.ws[each.key]]
}

entry "shared" {
  image = image.debian
  root  = export.nbd.shared
}

entry "own" {
  for_each = { for k, h in local.machines : k => h if h.owner }
  image    = image.debian
  root     = export.nbd.own[each.key]
}

bootloader "ipxe" "menu" { # what everybody may choose from
  entries = [entry.shared]
  timeout = 10
}

bootloader "ipxe" "hidden" { # the second one needs a block to name it
  entries = [entry.shared, entry.own["a"]]
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.hidden
  pool {
    range = "10.0.0.100-10.0.0.199"
  }
}

locals {
  machines = {
    a = { mac = "52:54:00:00:00:01", owner = true, address = "10.0.0.21" }
    b = { mac = "52:54:00:00:00:02", owner = true, address = null }
    c = { mac = "52:54:00:00:00:03", owner = false, address = null }
  }
}

host "ws" {
  for_each = local.machines
  mac      = each.value.mac
  address  = each.value.address
  boot     = bootloader.ipxe.menu
  entry    = each.value.owner ? entry.own[each.key] : entry.shared
}
