check "nothing" {
}

check {
  assert {
    condition     = true
    error_message = "x"
  }
}

check "many" {
  assert {
    condition = true
  }
  assert {
    error_message = "x"
  }
  asert {
  }
  message = "x"
}

check "many" {
  assert {
    condition     = true
    error_message = "x"
  }
}
