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

export "nfs" "a" {
  image   = image.debian
  clients = ["ws01.example.com", "*.example.com", "@trusted", "gss/krb5", "fd00::1", "10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/255.0.255.0"]
}

export "nfs" "b" {
  image   = image.debian
  clients = []
}

export "nfs" "c" {
  image   = image.debian
  clients = ["*"]
  allow   = [host.a]
}

host "a" {
  mac = "52:54:00:00:00:01"
}
