# What a machine of the room is offered.

entry "lesson" {
  title = "Lesson"
  image = image.pupil
  root  = export.nbd.pupil
  args  = ["quiet"]

  mount "/home" {
    type    = "nfs4"
    device  = "${local.files}:/home"
    options = ["nodev", "nosuid"]
  }
}

# The same image without the pupils' homes: an exam begins with an empty one, which
# is in memory.
entry "exam" {
  title = "Exam"
  image = image.pupil
  root  = export.nbd.pupil
  args  = ["quiet", "exam"]

  mount "/home" {
    type    = "tmpfs"
    options = ["nodev", "nosuid", "noexec", "size=1g"]
  }
  file "/etc/hosts" {
    source = "files/exam-hosts"
  }
}

entry "desk" {
  title = "Teacher's desk"
  image = image.teacher
  root  = export.nbd.teacher
  args  = ["quiet"]

  mount "/home" {
    type    = "nfs4"
    device  = "${local.files}:/home"
    options = ["nodev", "nosuid"]
  }
}

# The menu of every day. Whoever does not choose has the lesson after ten seconds, and
# what cannot boot from here boots its own disk.
bootloader "ipxe" "lesson" {
  entries  = [entry.lesson, entry.exam]
  timeout  = 10
  fallback = "local-disk"
}

# No choice, and no way around it by pulling the cable.
bootloader "ipxe" "exam" {
  entries  = [entry.exam]
  fallback = "restart"
}

bootloader "ipxe" "desk" {
  entries  = [entry.desk, entry.lesson]
  timeout  = 5
  fallback = "local-disk"
}
