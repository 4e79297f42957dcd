# One server, one Debian image, every machine on the wire boots it.

variable "address" {
  type        = string
  default     = "10.77.0.1"
  description = "address of this server on the machines' network"
}

variable "interface" {
  type    = string
  default = "br0"
}

server "main" {
  interface = var.interface
  address   = var.address
}

image "debian" {
  debootstrap {
    suite = "bookworm"
    packages = [
      "linux-image-cloud-amd64",
      "systemd-sysv",
      "udev",
      "dbus",
      "iproute2",
    ]
  }
  hostname = "debian"
  timezone = "UTC"

  file "/etc/issue" {
    source = "issue" # shown above the login prompt
  }

  filesystem "ext4" {
    size = "2GiB" # sparse
  }
}

export "nbd" "debian" {
  image = image.debian
  mode  = "copy-on-write"
  keep  = "boot"
  allow = [subnet.lan]
}

entry "debian" {
  title = "Debian"
  image = image.debian
  root  = export.nbd.debian
  # The second is for machines that QEMU emulates: on a busy host the kernel may
  # otherwise find its timer broken.
  args = ["console=ttyS0", "no_timer_check"]
}

bootloader "ipxe" "menu" {
  entries = [entry.debian]
}

subnet "lan" {
  cidr          = "10.77.0.0/24"
  authoritative = true
  routers       = [server.main.address]
  lease_time    = "10m"
  boot          = bootloader.ipxe.menu
  pool {
    range = "10.77.0.100-10.77.0.199"
  }
}

host "first" {
  mac     = "52:54:00:00:00:01"
  address = "10.77.0.11"
}
