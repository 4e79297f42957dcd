variable "image" {
  description = "what is exported"
}

variable "allow" {
  type = list(any)
}

export "nbd" "root" {
  image = var.image
  allow = var.allow
}

entry "linux" {
  image = var.image
  root  = export.nbd.root
  file "/etc/motd" {
    source = "motd"
  }
}

bootloader "ipxe" "menu" {
  entries = [entry.linux]
}

output "entry" {
  value = entry.linux
}

output "loaders" {
  value = [bootloader.ipxe.menu]
}
