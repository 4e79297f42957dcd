# What may happen without somebody looking. The policy that is served counts, not the
# one of the commit that changes it.

policy {
  max_delete = "5%" # a rack is 4 %; a hall is a mistake until somebody says otherwise
  approve    = "required"

  window {
    days     = ["mon", "tue", "wed", "thu"]
    from     = "22:00"
    to       = "05:00"
    timezone = "Europe/Berlin"
  }
}
