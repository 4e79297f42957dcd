image "arch" {
  pacstrap {
    files = ["packages/one-1-1-any.pkg.tar.xz", "packages/readme", "../two-1-1-any.pkg.tar"]
  }
  filesystem "squashfs" {}
}
