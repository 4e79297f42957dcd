group "a" {}
