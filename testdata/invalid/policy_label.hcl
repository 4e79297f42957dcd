policy "strict" {
  max_delete = 1.5
}
