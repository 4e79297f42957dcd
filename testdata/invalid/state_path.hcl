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
  state "/" {}
  state "var/lib/puppet" {}
  state "/var/lib/puppet/" {}
  state "/var/lib" {}
  state "/var/lib/dlreconcile" {}
  state "/var/lib/dlreconcile/state" {}
  state "/etc" {}
  state "/dev/shm" {}
  state "/var/run/app" {}
  state "/var/lock/app" {}
  state "/var/locks" {}
  state "/var/lib/my data" {}
  state "/var/lib/puppet" {}
  state "/var/lib/puppet" {}
}
