# env lab
variable "lease" {
  validation {
    condition     = endswith(var.lease, "h")
    error_message = "Leases are whole hours."
  }
}
