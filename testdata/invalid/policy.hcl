policy {
  max_delete  = "10 %"
  allow_empty = "perhaps"
  approve     = "require"
  window {
    days     = ["monday", "Tue", "weekend"]
    from     = "22"
    to       = "24:00"
    timezone = "Local"
  }
  window {
    days = []
    from = "01:00"
    to   = null
  }
  window {
    day  = "mon"
    from = "01:00"
  }
}

policy {
  max_delete = -1
}
