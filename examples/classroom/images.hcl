# What the room boots: one system for the pupils, one for the teacher.

locals {
  packages = [
    "linux-image-amd64",
    "systemd-sysv",
    "systemd-timesyncd",
    "locales",
    "console-setup",
    "udev",
    "dbus",
    "iproute2",
    "kmod",
    "nfs-common",
    "xfce4",
    "lightdm",
    "firefox-esr",
  ]
}

image "pupil" {
  debootstrap {
    suite    = "bookworm"
    packages = concat(local.packages, ["libreoffice-calc", "libreoffice-writer", "python3", "idle"])
  }
  hostname = "pupil"
  timezone = "Europe/Berlin"
  locale   = "de_DE.UTF-8"
  keymap   = "de"
  mask     = ["apt-daily.timer", "apt-daily-upgrade.timer"]

  file "/etc/motd" {
    source = "files/motd"
  }

  filesystem "squashfs" {
    compress = "zstd"
  }
}

image "teacher" {
  debootstrap {
    suite    = "bookworm"
    packages = concat(local.packages, ["epoptes", "libreoffice", "tigervnc-viewer"])
  }
  hostname = "teacher"
  timezone = "Europe/Berlin"
  locale   = "de_DE.UTF-8"
  keymap   = "de"

  filesystem "ext4" {
    size = "8GiB" # sparse
  }
}

# Read-only: every place has the same bytes, and what a pupil changes is in the
# memory of that machine, until it is switched off.
export "nbd" "pupil" {
  image = image.pupil
  mode  = "read-only"
  allow = [subnet.room]
}

# The teacher's changes are kept on the server until the desk boots again.
export "nbd" "teacher" {
  image = image.teacher
  mode  = "copy-on-write"
  allow = [host.desk]
}
