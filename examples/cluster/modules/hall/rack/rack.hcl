# A rack: what its nodes have in common, and the nodes.

variable "rack" {}

variable "nodes" {
  type = map(map(string))
  validation {
    condition     = length(var.nodes) <= 42
    error_message = "A rack has 42 slots."
  }
}

group "nodes" {
  args = ["rack=${var.rack}"]
  file "/etc/slurm/rack" {
    content = "${var.rack}\n"
  }
}

host "node" {
  for_each = var.nodes
  mac      = each.value.mac
  address  = each.value.address
  group    = group.nodes
  args     = ["slot=${each.value.slot}"]
}

output "nodes" {
  value = keys(host.node)
}
