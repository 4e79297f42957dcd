# A home: the router gives out addresses and stays as it is; this server, which is the
# NAS, says what to boot.

server "nas" {
  interface = "eth0"
  address   = "192.168.178.10"
}

subnet "home" {
  cidr = "192.168.178.0/24"
  mode = "proxy" # addresses, names and the way out are the router's to say
  boot = bootloader.ipxe.menu
}

# What anybody's machine may choose from when it is told to boot from the network.
bootloader "ipxe" "menu" {
  entries  = [entry.rescue]
  timeout  = 15
  fallback = "local-disk"
}

bootloader "ipxe" "kiosk" {
  entries = [entry.kiosk]
}

bootloader "ipxe" "media" {
  entries = [entry.media]
}

# The tablet in the kitchen.
host "kiosk" {
  mac     = "52:54:00:17:80:01"
  address = "192.168.178.21" # what the router gives it: a fixed one there
  boot    = bootloader.ipxe.kiosk
}

# The box below the television: its root is a folder of the NAS.
host "media" {
  mac     = "52:54:00:17:80:02"
  address = "192.168.178.22"
  boot    = bootloader.ipxe.media
}
