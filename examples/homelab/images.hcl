# A system to mend others with.
image "rescue" {
  debootstrap {
    suite = "bookworm"
    packages = [
      "linux-image-amd64",
      "systemd-sysv",
      "udev",
      "dbus",
      "iproute2",
      "kmod",
      "openssh-server",
      "gdisk",
      "testdisk",
      "smartmontools",
      "btrfs-progs",
    ]
  }
  hostname = "rescue"
  filesystem "squashfs" {}
}

export "nbd" "rescue" {
  image = image.rescue
  mode  = "read-only"
}

entry "rescue" {
  title = "Rescue"
  image = image.rescue
  root  = export.nbd.rescue
}

# A browser and nothing else, out of a container image that somebody else builds. Its
# digest says which bytes: another one is another image, in a commit that can be read.
image "kiosk" {
  oci {
    reference = "registry.home.example/kiosk:bookworm@sha256:5d1f0ab1c3c2e8f5a7b94c6de2f0c1837a46b5e9d8f7061524334251607f8e9d"
  }
  hostname = "kiosk"
  filesystem "squashfs" {}
}

export "nbd" "kiosk" {
  image = image.kiosk
  mode  = "read-only"
  allow = [host.kiosk]
}

entry "kiosk" {
  title = "Kiosk"
  image = image.kiosk
  root  = export.nbd.kiosk
  args  = ["quiet", "consoleblank=0"]

  file "/etc/kiosk.conf" {
    source = "files/kiosk.conf"
  }
}

# The media box has one root, which it may write to: a working copy on the NAS, made
# once of the image and kept over boots.
image "media" {
  debootstrap {
    suite    = "bookworm"
    packages = ["linux-image-amd64", "systemd-sysv", "udev", "dbus", "iproute2", "kmod", "nfs-common", "kodi"]
  }
  hostname = "media"
  timezone = "Europe/Berlin"
  filesystem "ext4" {
    size = "8GiB" # sparse
  }
}

export "nfs" "media" {
  image   = image.media
  mode    = "read-write"
  allow   = [host.media]
  options = ["no_root_squash"] # it is a root
}

entry "media" {
  title = "Media"
  image = image.media
  root  = export.nfs.media
  args  = ["quiet"]

  mount "/srv/media" {
    type    = "nfs4"
    device  = "${server.nas.address}:/volume1/media"
    options = ["ro", "nodev", "nosuid"]
  }
}
