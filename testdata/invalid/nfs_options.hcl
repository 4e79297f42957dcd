server "main" {
  address = "10.0.0.1"
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "2GiB"
  }
}

export "nfs" "a" {
  image   = image.debian
  options = ["rw", "fsid=0", "no_root_squash,no_subtree_check", "async", "sec=krb5", "subtree_check", "crossmnt", "anonuid=nobody", "anonuid", "no_root_sqash", "root_squash=1"]
}
