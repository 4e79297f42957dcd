group "a" {}

group "many" {
  for_each = toset(["x"])
}
