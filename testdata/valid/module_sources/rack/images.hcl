variable "key" {}

image "folder" { # paths are those of the module
  directory {
    path = "root"
  }
  filesystem "squashfs" {}
}

image "arch" {
  pacstrap {
    files = ["packages/one-1-1-any.pkg.tar.zst"]
  }
  filesystem "squashfs" {}
}

image "disk" {
  disk {
    path = "disk.raw"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}

export "nfs" "folder" { # at /rack.a.folder and /rack.b.folder
  image = image.folder
}

export "nbd" "disk" { # each module has a host that writes to its own
  image = image.disk
  mode  = "read-write"
  allow = [host.owner]
}

entry "disk" {
  image = image.disk
  root  = export.nbd.disk
}

bootloader "ipxe" "disk" {
  entries = [entry.disk]
}

host "owner" {
  mac      = var.key == "a" ? "52:54:00:00:00:01" : "52:54:00:00:00:02"
  hostname = "owner-${var.key}"
  boot     = bootloader.ipxe.disk
}
