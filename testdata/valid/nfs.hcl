server "main" {
  address = "10.0.0.1"
}

server "other" {
  address = "10.1.0.1"
  nfs {
    listen = ":20049"
  }
}

server "none" {
  address = "10.2.0.1"
  nfs {
    enabled = false
  }
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nfs" "debian" { # its path is /debian
  server  = server.main
  image   = image.debian
  options = ["no_root_squash"]
}

export "nfs" "shared" {
  server  = server.main
  image   = image.debian
  mode    = "read-write"
  path    = "/srv/shared"
  clients = ["10.0.0.0/24", "10.0.0.0/255.255.255.0", "10.0.1.7"]
  options = ["no_subtree_check", "no_root_squash", "insecure", "sync", "sec=sys"]
}

export "nfs" "room" { # /room.a and /room.b
  for_each = toset(["a", "b"])
  server   = server.other
  image    = image.debian
  allow    = [host.ws[each.key], subnet.lan]
  options  = ["all_squash", "anonuid=1000", "anongid=4294967294"]
}

export "nbd" "room" {
  for_each = toset(["a", "b"])
  server   = server.main
  image    = image.debian
  mode     = "copy-on-write"
  keep     = each.key == "a" ? "connection" : "host"
}

entry "debian" {
  image = image.debian
  root  = export.nfs.debian
  mount "/" {
    type    = "nfs4"
    options = ["noatime"]
  }
}

entry "shared" {
  image = image.debian
  root  = export.nfs.shared
}

bootloader "ipxe" "menu" {
  entries = [entry.debian, entry.shared]
}

subnet "lan" {
  server = server.main
  cidr   = "10.0.0.0/24"
  boot   = bootloader.ipxe.menu
}

host "ws" {
  for_each = { a = "52:54:00:00:00:01", b = "52:54:00:00:00:02" }
  mac      = each.value
  address  = cidrhost("10.0.0.0/24", each.key == "a" ? 21 : 22)
}
