host "a" {
  mac = "52:54:00:00:00:01"
}

moved {
  from = "host.b"
  to   = host.a
}

moved {
  to = host.a
}

moved {
  from = host["a"]
  to   = host.a
}

moved {
  from = module.rack
  to   = module.rack.host
}

moved {
  from = hosts.a
  to   = variable.a
}

moved {
  from = export.arch
  to   = host.a.mac
}

moved {
  from = host.c[1]
  to   = upper("host.a")
}

moved {
  from = host.d
  to   = host.a
  why  = "renamed"
}
