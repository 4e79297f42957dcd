variable "limit" {
  default = "10%"
}

policy {
  max_delete  = var.limit
  allow_empty = true
  approve     = "required"
  window {
    days     = ["fri", "mon", "mon"]
    from     = "22:00"
    to       = "06:00"
    timezone = "Europe/Berlin"
  }
  window {
    from = "12:30"
    to   = "13:00"
  }
}
