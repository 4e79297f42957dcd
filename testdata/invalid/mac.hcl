server "main" {
  address = "10.0.0.1"
}

host "a" {
  mac = "52:54:00:00:00"
}

host "b" {
  mac = "53:54:00:00:00:01"
}

host "c" {
  mac = "00:00:00:00:00:00"
}

host "d" {
  mac = null
}

host "e" {
  mac = "52-54-00-00-00-05"
}

host "f" {
  mac = "5254.0000.0005"
}
