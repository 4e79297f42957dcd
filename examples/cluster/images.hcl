# Two systems: the nodes', and the head's.

locals {
  packages = [
    "linux-image-amd64",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
    "dbus",
    "iproute2",
    "kmod",
    "nfs-common",
    "munge",
    "openssh-server",
  ]
}

image "compute" {
  debootstrap {
    suite    = "bookworm"
    packages = concat(local.packages, ["slurmd", "openmpi-bin", "numactl"])
  }
  timezone = "UTC"
  initramfs {
    modules = ["ixgbe", "mlx5_core"]
  }
  filesystem "squashfs" {
    compress = "lz4" # a thousand nodes read it at once: cheap to unpack
  }
}

image "head" {
  debootstrap {
    suite    = "bookworm"
    packages = concat(local.packages, ["slurmctld", "slurmdbd", "mariadb-server", "dnsmasq", "chrony"])
  }
  hostname = "head"
  timezone = "UTC"
  filesystem "ext4" {
    size = "16GiB" # sparse
  }
}

export "nbd" "compute" {
  image = image.compute
  mode  = "read-only"
  allow = [for h in module.hall : h.subnet]
}

export "nbd" "head" {
  image = image.head
  mode  = "copy-on-write"
  allow = [host.head]
}

entry "compute" {
  title = "Compute node"
  image = image.compute
  root  = export.nbd.compute
  args  = ["quiet", "mitigations=off", "transparent_hugepage=always"]

  mount "/home" {
    type    = "nfs4"
    device  = "${local.head}:/home"
    options = ["nodev", "nosuid"]
  }
  mount "/scratch" {
    type    = "tmpfs"
    options = ["nodev", "nosuid", "size=50%"]
  }
}

entry "head" {
  title = "Head node"
  image = image.head
  root  = export.nbd.head
  args  = ["quiet"]

  # What has to outlive a boot is on the head's own disks.
  mount "/home" {
    type    = "xfs"
    device  = "LABEL=home"
    options = ["noatime"]
  }
  mount "/var/lib/mysql" {
    type   = "xfs"
    device = "LABEL=accounting"
  }
}

bootloader "ipxe" "compute" {
  entries = [entry.compute]
}

bootloader "ipxe" "head" {
  entries = [entry.head]
}
