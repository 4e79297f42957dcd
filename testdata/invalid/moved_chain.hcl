group "c" {}

group "e" {}

group "many" {
  for_each = toset(["a", "b"])
}

moved {
  from = group.b
  to   = group.c
}

moved {
  from = group.a
  to   = group.b
}

moved {
  from = group.c
  to   = group.b
}

moved {
  from = group.d
  to   = group.c
}

moved {
  from = group.b
  to   = group.e
}

moved {
  from = group.some
  to   = group.many
}

moved {
  from = group.some["b"]
  to   = group.e
}
