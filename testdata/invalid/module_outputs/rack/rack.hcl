host "a" {
  mac = "52:54:00:00:00:01"
}

output "all" {
  value = { a = host.a }
}

output "wrong" {
}

output "all" {
  value = 2
}

output "more" {
  value = host.b
  type  = string
}
