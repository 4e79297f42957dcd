server "main" {
  address = "10.0.0.1"
}

image "a" {
  sealed {
    digest     = "6f4b1e5d3b0a9c8e7f2d1c0b9a8f7e6d5c4b3a2f1e0d9c8b7a6f5e4d3c2b1a00"
    filesystem = "squashfs"
  }
}

image "b" {
  hostname = "b"
  sealed {
    digest     = "sha256:6f4b1e5d3b0a9c8e7f2d1c0b9a8f7e6d5c4b3a2f1e0d9c8b7a6f5e4d3c2b1a00"
    filesystem = "ext4"
  }
  file "/etc/motd" {
    content = "x"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}

image "c" {
  sealed {
  }
}
