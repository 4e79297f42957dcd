package providertest

import (
	"os"
	"os/exec"
	"testing"
)

// runModel runs one check on the model with a fault, in a process of its own: there
// it fails, here it must.
func runModel(t *testing.T, exe, fault, check string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestModel$/^"+check+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), theFault+"="+fault)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
