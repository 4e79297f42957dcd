// Package providertest holds what every provider must pass, and what tests of
// providers share.
package providertest

import (
	"os"
	"os/exec"
	"testing"
)

// Full is the environment variable that turns every "skipped: X is missing" into
// a failure. `make test` and CI set it.
const Full = "DLRECONCILE_TEST_FULL"

// Need skips the test when one of the programs is not installed, and fails it
// instead when Full is set.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing(t, p+" is not installed")
		}
	}
}

// NeedFile is Need for a file; pkg is the package that has it.
func NeedFile(t testing.TB, path, pkg string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		missing(t, err.Error()+"; it is in the package "+pkg)
	}
}

// NeedRoot skips or fails the test when it does not run as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "needs root (network namespaces)")
	}
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(Full) != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
