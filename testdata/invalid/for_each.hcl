server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/24"
}

host "list" {
  for_each = ["a", "b"]
  mac      = "52:54:00:00:00:01"
}

host "null" {
  for_each = null
  mac      = "52:54:00:00:00:01"
}

host "number" {
  for_each = 3
  mac      = "52:54:00:00:00:01"
}

host "numbers" {
  for_each = toset([1, 2])
  mac      = "52:54:00:00:00:01"
}

host "empty" {
  for_each = toset([""])
  mac      = "52:54:00:00:00:01"
}

entry "upper" {
  for_each = toset(["A"])
  image    = image.x
  root     = export.nbd.x
}

server "each" {
  for_each = toset(["a"])
  address  = "10.0.0.9"
}

host "plain" {
  mac = each.value
}

host "third" {
  for_each = toset(["a"])
  mac      = each.mac
}
