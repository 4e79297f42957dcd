locals {
  a = [for i in range(1000) : [for j in range(1000) : [for k in range(1000) : i + j + k]]]
}
