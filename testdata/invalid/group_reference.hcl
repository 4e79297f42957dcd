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

group "lab" {}

group "room" {
  for_each = toset(["a", "b"])
  entry    = entry.debian
}

host "dangling" {
  mac   = "52:54:00:00:00:01"
  group = group.labs
}

host "text" {
  mac   = "52:54:00:00:00:02"
  group = "group.lab"
}

host "kind" {
  mac   = "52:54:00:00:00:03"
  group = entry.debian
}

host "list" {
  mac   = "52:54:00:00:00:04"
  group = [group.lab]
}

host "map" {
  mac   = "52:54:00:00:00:05"
  group = group.room
}

host "key" {
  mac   = "52:54:00:00:00:06"
  group = group.room["c"]
}

host "attribute" {
  mac   = "52:54:00:00:00:07"
  group = group.room["a"].entry
}

host "typo" {
  mac   = "52:54:00:00:00:08"
  group = gruop.lab
}

group "nested" {
  group = group.lab
}
