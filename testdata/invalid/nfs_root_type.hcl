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

export "nfs" "debian" {
  image   = image.debian
  options = ["no_root_squash"]
}

entry "debian" {
  image = image.debian
  root  = export.nfs.debian
  args  = ["nfsroot=10.0.0.1:/debian"]
}

entry "typed" {
  image = image.debian
  root  = export.nfs.debian
  mount "/" {
    type = "ext4"
  }
}
