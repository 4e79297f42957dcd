image "a" {
  debootstrap {
    suite      = "book worm"
    mirror     = "ftp://deb.example/debian"
    components = ["main", "Non Free"]
    packages   = ["linux-image-amd64", "--force", "x; rm"]
    variant    = "minimal"
    arch       = "x86_64"
  }
  hostname = "a_b"
  timezone = "../../etc/passwd"
  locale   = "en US"
  keymap   = ""
  mask     = ["e2scrub_reap"]
  initramfs {
    modules  = ["nbd", "../x"]
    compress = "brotli"
  }
  filesystem "ext4" {
    size = "2GB"
  }
}
