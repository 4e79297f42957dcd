# var lease=30s
# var secret=hunter2
variable "lease" {
  validation {
    condition     = var.lease != "30s"
    error_message = "leases of ${var.lease} only make noise"
  }
}

variable "secret" {
  sensitive = true
  validation {
    condition     = strlen(var.secret) > 10
    error_message = "Too short: ${var.secret}"
  }
}

variable "size" {
  type    = number
  default = 3
  validation {
    condition     = var.size < 2
    error_message = "At most one."
  }
  validation {
    condition     = var.lease == "1h" || var.wrong > 1
    error_message = "Sizes go with leases of an hour."
  }
}

variable "wrong" {
  type    = number
  default = "x"
  validation {
    condition     = var.wrong > 1
    error_message = "Never said: the value is no number."
  }
}

variable "constant" {
  default = var.size
  validation {
    condition = true
  }
}
