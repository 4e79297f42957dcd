package plan

// variables prints sensitive variables that have other values than before.
func (t *text) variables(list []VariableChange) {
	for _, v := range list {
		mark, _ := sign(Update)
		t.line(t.paint(Update, mark+" var."+printable(v.Name)) + "  " + Masked + " -> " + Masked)
		t.line("    " + v.detail())
		t.line("")
	}
}

func (v VariableChange) detail() string {
	if v.Followed {
		return "it is given another value; what uses it is among the changes"
	}
	return "it is given another value; what uses it is not known, and need not be among the changes"
}
