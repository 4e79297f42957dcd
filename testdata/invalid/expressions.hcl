locals {
  a = 1 + "x"
  b = [1, 2][5]
  c = { x = 1 }.y
  d = true ? "a" : [1]
  e = null + 1
  f = 1 / 0
  g = "${[1]}"
  h = [for x in 5 : x]
  i = local.z
}
