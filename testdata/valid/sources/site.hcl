server "main" {
  address = "10.0.0.1"
}

image "least" { # what an Arch is without a word
  pacstrap {}
  filesystem "squashfs" {}
}

image "arch" {
  pacstrap {
    mirror   = "https://mirror.example/$repo/os/$arch"
    packages = ["linux", "base", "extra/nfs-utils", "base"]
    files    = ["packages/two-1-1-x86_64.pkg.tar", "packages/one-1-1-any.pkg.tar.zst"]
    arch     = "aarch64"
  }
  copy "/usr/lib/initcpio/install/netnfs4" {
    from = "/usr/lib/initcpio/install/net"
  }
  copy "/usr/lib/initcpio/hooks/netnfs4" {
    from        = "/usr/lib/initcpio/hooks/net"
    replace     = { "nfsmount" = "mount.nfs4", "old" = null, "10.0.0.9" = server.main.address }
    permissions = "0755"
  }
  initramfs "mkinitcpio" {
    modules  = ["nfsv4"]
    hooks    = ["base", "udev", "net", "netnfs4", "filesystems"]
    binaries = ["/usr/bin/mount.nfs4", "busybox"]
    compress = "xz"
  }
  filesystem "ext4" {
    size = "8GiB"
  }
}

image "container" {
  oci {
    reference = "registry.example:5000/base/debian:12@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    platform  = "linux/arm64"
  }
  initramfs "dracut" {
    hooks   = ["nbd", "network-manager"]
    modules = ["virtio_net"]
  }
  filesystem "squashfs" {}
}

image "local" {
  oci {
    reference = "localhost/debian@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  filesystem "squashfs" {}
}

image "folder" {
  directory {
    path = "root"
  }
  initramfs "none" {}
  filesystem "squashfs" {}
}

image "kept" {
  disk {
    path   = "disk.qcow2"
    sha256 = "e4afa146b6cac84107134c69a12c93b983d4a09d5f628f325d11aa7347a8e895"
    format = "qcow2"
  }
  filesystem "squashfs" {}
}

image "fetched" {
  disk {
    url       = "https://images.example/debian-12.raw?x=1"
    sha256    = "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"
    partition = 1
  }
  filesystem "btrfs" {
    size = "4GiB"
  }
}
