server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/24"
}

host "a" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.1.9"
}

host "b" {
  mac     = "52:54:00:00:00:02"
  address = "10.0.0.1"
}

host "c" {
  mac     = "52:54:00:00:00:03"
  address = "10.0.0.0"
}

host "d" {
  mac     = "52:54:00:00:00:04"
  address = "10.0.0.255"
}

host "e" {
  mac     = "52:54:00:00:00:05"
  address = "10.0.0.5"
}

host "f" {
  mac     = "52:54:00:00:00:06"
  address = "10.0.0.5"
}

host "g" {
  mac     = "52:54:00:00:00:07"
  address = "10.0.0.300"
}

host "h" {
  mac     = "52:54:00:00:00:08"
  address = "fe80::1"
}
