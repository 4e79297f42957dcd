# A computer room: thirty places in five rows, and the teacher's desk.

variable "exam_rows" {
  type        = set(string)
  default     = []
  description = "rows that sit an exam: nothing else can be booted there"
  validation {
    condition     = length(setsubtract(var.exam_rows, local.rows)) == 0
    error_message = "Rows are named as in places.csv: a to e."
  }
}

locals {
  places = { for p in csvdecode(file("places.csv")) : p.name => p }
  rows   = toset([for p in local.places : p.row])
  files  = "10.20.0.2" # the school's file server, which knows the time, too
}

server "main" {
  interface = "eth0"
  address   = "10.20.0.1"
}

subnet "room" {
  cidr                = "10.20.0.0/24"
  authoritative       = true
  routers             = ["10.20.0.254"]
  domain_name_servers = ["10.20.0.254"]
  domain_name         = "room.school.example"
  ntp_servers         = [local.files]
  lease_time          = "10m" # short: a place that was moved or mended is right again after the break
  boot                = bootloader.ipxe.lesson

  pool {
    range = "10.20.0.200-10.20.0.229" # laptops that somebody brought along
  }
}

# One group for each row, so that rows can be told apart: in the menu, on the kernel
# line, and in `dlreconcile plan`.
group "row" {
  for_each = local.rows
  boot     = contains(var.exam_rows, each.key) ? bootloader.ipxe.exam : bootloader.ipxe.lesson
  args     = ["row=${each.key}"]
}

host "place" {
  for_each = local.places
  mac      = each.value.mac
  address  = each.value.address
  group    = group.row[each.value.row]
}

host "desk" {
  mac      = "52:54:00:20:00:fe"
  address  = "10.20.0.10"
  hostname = "desk"
  boot     = bootloader.ipxe.desk
}

check "places" {
  assert {
    condition     = length(local.places) <= 30
    error_message = "The room has thirty places, and the addresses of more would run into the pool."
  }
  assert {
    condition     = length(toset([for p in local.places : p.address])) == length(local.places)
    error_message = "Two places in places.csv have one address."
  }
}
