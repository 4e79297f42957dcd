image "nowhere" {
  disk {
    format = "raw"
  }
  filesystem "squashfs" {}
}

image "twice" {
  disk {
    path = "disk.raw"
    url  = "https://images.example/disk.raw"
  }
  filesystem "squashfs" {}
}

image "loose" {
  disk {
    url = "https://images.example/disk.raw"
  }
  filesystem "squashfs" {}
}

image "null" {
  disk {
    url    = "https://images.example/disk.raw"
    sha256 = null
  }
  filesystem "squashfs" {}
}
