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

export "nbd" "debian" {
  image = image.debian
  mode  = "copy-on-write"
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

locals {
  quarter = join("", [for i in range(65536) : "4444"]) # 256 KiB
}

host "one" {
  mac = "52:54:00:00:00:01"
  file "/one" {
    content = "${local.quarter}!"
  }
}

host "together" {
  mac = "52:54:00:00:00:02"
  file "/a" {
    content = local.quarter
  }
  file "/b" {
    content = local.quarter
  }
  file "/c" {
    content = local.quarter
  }
  file "/d" {
    content = local.quarter
  }
  file "/e" {
    content = "!"
  }
  file "/f" {
    content = "said once"
  }
}
