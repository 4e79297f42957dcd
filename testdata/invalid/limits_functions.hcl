locals {
  a = range(200000)
  b = setproduct(range(1000), range(1000))
  c = format("%999999999d", 1)
  d = join(join("", [for i in range(1000) : "xxxxxxxxxx"]), [for i in range(1000) : "y"])
  e = replace(join("", [for i in range(3000) : "x"]), "x", join("", [for i in range(3000) : "y"]))
  f = indent(100000, "a")
  g = yamldecode("a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f]")
  h = yamldecode("a: &a [*a]")
}
