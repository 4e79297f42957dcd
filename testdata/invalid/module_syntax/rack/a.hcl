host "a" {
  mac = 
}
