locals {
  bad     = templatefile("bad.tmpl", { name = "x" })
  syntax  = templatefile("syntax.tmpl", {})
  missing = templatefile("mising.tmpl", {})
  self    = templatefile("self.tmpl", {})
  vars    = templatefile("bad.tmpl", "x")
}
