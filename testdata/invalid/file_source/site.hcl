group "lab" {
  file "/missing" {
    source = "motf"
  }
  file "/outside" {
    source = "../motd"
  }
  file "/empty" {
    source = ""
  }
  file "/folder" {
    source = "keys"
  }
  file "/null" {
    source = null
  }
  file "/motd" {
    source = "motd"
  }
}
