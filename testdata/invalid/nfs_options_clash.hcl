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
  options = ["root_squash", "no_root_squash"]
}

export "nfs" "b" {
  image   = image.debian
  options = ["all_squash", "no_root_squash", "secure", "insecure"]
}

export "nfs" "c" {
  image   = image.debian
  options = ["anonuid=1", "anonuid=2"]
}
