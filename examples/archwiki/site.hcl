# The server, the network and the machines: the page's dhcpd.conf and its TFTP server.

variable "interface" {
  type        = string
  default     = "eth0"
  description = "network interface of the machines' network"
}

server "main" {
  interface = var.interface
  address   = "10.0.0.1"
}

subnet "lan" {
  cidr                = "10.0.0.0/24"
  authoritative       = true
  bootp               = true # allow bootp
  domain_name_servers = ["10.0.0.1"]
  routers             = ["10.0.0.1"]
  next_server         = server.main.address
  boot                = bootloader.grub.menu # allow booting; the file follows option 93

  pool {
    range = "10.0.0.128-10.0.0.254"
  }
}

# Machines need no block: the pool is for them. One with a block has a name of its own.
host "render01" {
  mac     = "52:54:00:00:01:01"
  address = "10.0.0.21"
  entry   = entry.arch
}

# Another one starts by PXELINUX.
host "render02" {
  mac     = "52:54:00:00:01:02"
  address = "10.0.0.22"
  boot    = bootloader.pxelinux.menu
}
