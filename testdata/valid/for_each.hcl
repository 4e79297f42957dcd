# Everything that can be repeated, and references into it.

server "main" {
  address = "10.0.0.1"
}

locals {
  suites = toset(["bookworm", "trixie"])
  nets   = { lan = 0, lab = 1 }
  hosts  = { for i in range(3) : format("n%02d", i) => i }
}

image "debian" {
  for_each = local.suites
  debootstrap {
    suite = each.key
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}

export "nbd" "debian" {
  for_each = local.suites
  image    = image.debian[each.key]
  mode     = "copy-on-write"
  allow    = [subnet.net["lan"], subnet.net["lab"], host.node["n00"]]
}

entry "debian" {
  for_each = local.suites
  title    = "Debian ${title(each.value)}"
  image    = image.debian[each.value]
  root     = export.nbd.debian[each.value]
}

bootloader "ipxe" "menu" {
  for_each = local.nets
  entries  = each.key == "lan" ? [entry.debian["bookworm"], entry.debian["trixie"]] : [entry.debian["trixie"]]
}

subnet "net" {
  for_each = local.nets
  cidr     = cidrsubnet("10.0.0.0/16", 8, each.value)
  boot     = bootloader.ipxe.menu[each.key]
}

host "node" {
  for_each = local.hosts
  mac      = format("52:54:00:00:00:%02x", each.value)
  address  = cidrhost("10.0.1.0/24", 10 + each.value)
  entry    = { even = entry.debian["bookworm"], odd = entry.debian["trixie"] }[each.value % 2 == 0 ? "even" : "odd"]
}

host "none" {
  for_each = {}
  mac      = "52:54:00:00:01:01"
}
