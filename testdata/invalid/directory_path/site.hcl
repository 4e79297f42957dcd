image "missing" {
  directory {
    path = "rot"
  }
  filesystem "squashfs" {}
}

image "file" {
  directory {
    path = "root/etc/motd"
  }
  filesystem "squashfs" {}
}

image "outside" {
  directory {
    path = "../root"
  }
  filesystem "squashfs" {}
}

image "all" { # the configuration itself
  directory {
    path = "."
  }
  filesystem "squashfs" {}
}

image "link" {
  directory {
    path = "link"
  }
  filesystem "squashfs" {}
}

image "archive" { # a folder is no archive, whoever named it before
  tar {
    path = "root"
  }
  filesystem "squashfs" {}
}

image "right" {
  directory {
    path = "root"
  }
  filesystem "squashfs" {}
}
