server "main" {
  address = "10.0.0.1"
}

image "arch" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nbd" "arch" {
  image = image.arch
}

entry "arch" {
  image = image.arch
  root  = export.nbd.arch
  args  = ["quiet", "root=/dev/sda1"]
}

host "ws" {
  mac  = "52:54:00:00:00:01"
  args = ["rootflags=noatime", "nbdroot=10.0.0.9,x,nbd0", "noresume BOOTIF=01-52-54-00-00-00-09"]
}
