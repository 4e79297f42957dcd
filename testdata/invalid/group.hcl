server "main" {
  address = "10.0.0.1"
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nbd" "debian" {
  image = image.debian
  mode  = "copy-on-write"
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

group "lab" {
  mac      = "52:54:00:00:00:01"
  hostname = "lab"
  address  = "10.0.0.2"
  argz     = ["quiet"]
}

group "lab 2" {}

group {}

group "a" "b" {}

group "values" {
  entry = image.debian
  boot  = entry.debian
  args  = ["quiet", ""]
}

group "many" {
  for_each = [1]
}

group "twice" {}

group "twice" {
  args = ["quiet"]
}
