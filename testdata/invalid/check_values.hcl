server "main" {
  address = "10.0.0.1"
}

check "values" {
  assert {
    condition     = server.main.address
    error_message = "x"
  }
  assert {
    condition     = server.main
    error_message = "x"
  }
  assert {
    condition     = null
    error_message = "x"
  }
  assert {
    condition     = true
    error_message = ""
  }
  assert {
    condition     = true
    error_message = ["x"]
  }
  assert {
    condition     = local.none > 1
    error_message = each.key
  }
}
