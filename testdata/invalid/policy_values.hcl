variable "zone" {
  sensitive = true
  default   = "Europe/../Berlin"
}

policy {
  max_delete = "101%"
  approve    = ["automatic"]
  window {
    days     = "mon"
    from     = "6:00"
    to       = 7
    timezone = var.zone
  }
  windows {}
}
