locals {
  a = 1e999999
  b = "x"
}
