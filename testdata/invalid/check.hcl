variable "password" {
  sensitive = true
  default   = "hunter2"
}

server "main" {
  address = "10.0.0.1"
}

check "network" {
  assert {
    condition     = startswith(server.main.address, "192.168.")
    error_message = "the server has ${server.main.address}, and not an address of 192.168.0.0/16"
  }
  assert {
    condition     = length(var.password) > 8
    error_message = "The password ${var.password} is too short"
  }
  assert {
    condition     = var.password == "x"
    error_message = "Another password is needed."
  }
}

check "holds" {
  assert {
    condition     = true
    error_message = "never said"
  }
}
