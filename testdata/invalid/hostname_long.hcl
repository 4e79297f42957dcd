# Linux takes 64 characters.
locals {
  most = join(".", [for i in range(8) : "rack-${i}x"]) # 63
}

image "a" {
  hostname = "${local.most}.x"
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

host "fits" {
  mac      = "52:54:00:00:00:01"
  hostname = "${local.most}x"
}

host "long" {
  mac      = "52:54:00:00:00:02"
  hostname = "${local.most}xx"
}

host "ws" { # the name is the key
  for_each = { "a${local.most}" = "52:54:00:00:00:03", "ab${local.most}" = "52:54:00:00:00:04" }
  mac      = each.value
}

server "main" {
  address = "10.0.0.1"
}

subnet "lan" { # a domain may be longer
  cidr        = "10.0.0.0/24"
  domain_name = "${local.most}.${local.most}"
}
