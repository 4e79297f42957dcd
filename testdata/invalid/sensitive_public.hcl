variable "net" {
  default   = "10.0.0"
  sensitive = true
}

variable "share" {
  default   = "10%"
  sensitive = true
}

server "main" {
  address = "${var.net}.1"
}

subnet "lan" {
  cidr = "${var.net}.0/24"
  pool {
    range = "${var.net}.100-${var.net}.200"
  }
}

host "a" {
  mac     = "52:54:00:00:00:01"
  address = "${var.net}.9"
}

policy {
  max_delete = var.share
}
