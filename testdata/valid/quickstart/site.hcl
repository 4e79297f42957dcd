# A whole site: one server, a Debian image for every machine, a second image for
# render nodes, and a table of machines.

variable "interface" {
  type        = string
  default     = "eth0"
  description = "where the machines are"
}

variable "root_password" {
  description = "hash for /etc/shadow"
  default     = "$6$not$ahash"
  sensitive   = true
}

locals {
  net     = "10.0.0.0/24"
  ws      = csvdecode(file("hosts.csv"))
  console = "console=ttyS0"
}

server "main" {
  interface = var.interface
  address   = cidrhost(local.net, 1)
  tftp {
    listen = ":6969"
  }
  http {
    listen = "0.0.0.0:8080"
  }
  nbd {}
}

image "debian" {
  debootstrap {
    suite      = "bookworm"
    mirror     = "http://mirror.example/debian"
    components = ["main", "contrib"]
    packages   = ["linux-image-cloud-amd64", "systemd-sysv", "openssh-server", "systemd-sysv"]
    variant    = "apt"
    keyring    = "keys/archive.gpg"
    arch       = "amd64"
  }
  hostname = "debian"
  timezone = "Europe/Berlin"
  locale   = "en_US.UTF-8"
  keymap   = "de-latin1"
  mask     = ["e2scrub_reap.service"]

  file "/etc/motd" {
    content     = templatefile("motd.tmpl", { site = "the site", machines = [for h in local.ws : h.name] })
    permissions = "0644"
  }
  file "/root/.ssh/authorized_keys" {
    source      = "keys/admin.pub"
    permissions = "0600"
  }
  file "/etc/shadow.root" {
    content     = "root:${var.root_password}:19000:0:99999:7:::"
    permissions = "0600"
    owner       = 0
    group       = 42
  }
  file "/etc/localtime" {
    symlink = "/usr/share/zoneinfo/Europe/Berlin"
  }

  initramfs {
    modules  = ["virtio_net", "e1000e"]
    compress = "zstd"
  }
  filesystem "ext4" {
    size  = "2GiB" # sparse
    label = "root"
  }
}

image "render" {
  tar {
    path   = "roots/render.tar"
    sha256 = "3a8f13bf732376d8c4e224a18f95a28bf2c3387868ac7aabdb1e690b702b68c8"
  }
  initramfs "initramfs-tools" {
    compress = "gzip"
  }
  filesystem "squashfs" {
    compress = "lz4"
  }
}

image "sealed" {
  tar {
    path = "roots/render.tar"
  }
  initramfs "none" {} # the archive brings its own
  filesystem "squashfs" {}
}

export "nbd" "debian" {
  image = image.debian
  mode  = "copy-on-write"
  keep  = "boot"
  allow = concat([subnet.lan], values(host.ws))
}

export "nbd" "render" {
  server = server.main
  image  = image.render
  mode   = "read-only"
}

entry "debian" {
  title = "Debian"
  image = image.debian
  root  = export.nbd.debian
  args  = ["quiet", local.console]
}

entry "render" {
  image = image.render
  root  = export.nbd.render
  args  = [local.console]
}

bootloader "ipxe" "menu" {
  entries = [entry.debian, entry.render]
  timeout = 5
}

subnet "lan" {
  server              = server.main
  cidr                = local.net
  authoritative       = true
  bootp               = true
  routers             = [server.main.address]
  domain_name_servers = [server.main.address, "10.0.0.53"]
  domain_name         = "lab.example"
  ntp_servers         = ["10.0.0.123"]
  interface_mtu       = 1500
  next_server         = server.main.address
  lease_time          = "90m"
  boot                = bootloader.ipxe.menu
  boot_file_name = {
    "7" = "custom/snponly.efi"
  }
  router_advertisement = false
  pool {
    range = "10.0.0.128-10.0.0.199"
  }
  pool {
    range = "10.0.0.200-10.0.0.250"
  }
}

host "render01" {
  mac      = "52-54-00-00-00-FF"
  address  = "10.0.0.21"
  hostname = "render01.lab.example"
  entry    = entry.render
  boot     = bootloader.ipxe.menu
  args     = ["systemd.log_level=debug"]
}

host "ws" {
  for_each = { for h in local.ws : h.name => h }
  mac      = each.value.mac
  address  = each.value.address
  args     = each.value.role == "kiosk" ? ["kiosk=1"] : null
}
