image "mirror" {
  pacstrap {
    mirror = "https://mirror.example/archlinux"
  }
  filesystem "squashfs" {}
}

image "scheme" {
  pacstrap {
    mirror = "rsync://mirror.example/$repo/os/$arch"
  }
  filesystem "squashfs" {}
}

image "login" {
  pacstrap {
    mirror = "https://me:secret@mirror.example/$repo/os/$arch"
  }
  filesystem "squashfs" {}
}

image "packages" {
  pacstrap {
    packages = ["base", "linux=6.1", "Linux-LTS"]
    arch     = "x86-64"
  }
  filesystem "squashfs" {}
}
