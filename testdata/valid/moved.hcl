server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/24"
}

host "pc" {
  for_each = { a = "52:54:00:00:00:01", b = "52:54:00:00:00:02", c = "52:54:00:00:00:03" }
  mac      = each.value
}

host "single" {
  mac = "52:54:00:00:00:04"
}

group "desks" {
  for_each = toset(["x", "y"])
}

policy {
  max_delete = 0
}

# a block of one became one of many
moved {
  from = host.pc
  to   = host.pc["a"]
}

moved {
  from = host.laptop["b.example"]
  to   = host.pc["b"]
}

# one of many became a block of its own
moved {
  from = host.laptop["c"]
  to   = host.single
}

# all of them
moved {
  from = group.seats
  to   = group.desks
}

moved {
  from = subnet.net
  to   = subnet.lan
}
