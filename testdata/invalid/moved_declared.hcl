group "rooms" {
  for_each = toset(["east", "west"])
}

group "lab" {}

group "old" {}

group "olds" {
  for_each = toset(["a"])
}

# still there
moved {
  from = group.old
  to   = group.lab
}

moved {
  from = group.olds["a"]
  to   = group.rooms["east"]
}

# not there
moved {
  from = group.former
  to   = group.labs
}

moved {
  from = group.room["weast"]
  to   = group.rooms["weast"]
}

moved {
  from = group.desks["a"]
  to   = group.rooms
}

moved {
  from = group.seats["a"]
  to   = group.lab["a"]
}
