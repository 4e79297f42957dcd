lease = "30m"
