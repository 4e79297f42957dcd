server "main" {
  address = "10.0.0.1"
}

subnet "a" {
  cidr                = "10.0.0.0/24"
  lease_time          = "59s"
  interface_mtu       = 60
  domain_name         = "-x"
  domain_name_servers = ["10.0.0.1", "dns"]
  authoritative       = "maybe"
  boot_file_name      = { "x" = "a", "7" = "", "007" = "b" }
}

subnet "b" {
  cidr          = "10.1.0.0/24"
  lease_time    = "10 minutes"
  interface_mtu = 1500.5
  ntp_servers   = "10.0.0.1"
}

subnet "c" {
  cidr       = "10.2.0.0/24"
  lease_time = "200y"
  boot_file_name = {
    "0" = "123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
  }
}

subnet "d" {
  cidr       = "10.3.0.0/24"
  lease_time = "50000d"
}
