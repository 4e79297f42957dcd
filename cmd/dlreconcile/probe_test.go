package main

import (
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/cmd/internal/nbdprobe"
)

// What a server says that an export is called does not make other bytes right.
func TestProbeIsHeldAgainstWhatWasAskedFor(t *testing.T) {
	right, wrong := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for _, c := range []struct{ asked, name, digest, want string }{
		{"arch@aaaaaaaaaaaa", "arch@aaaaaaaaaaaa", right, "yes"},
		{"arch@aaaaaaaaaaaa", "arch@bbbbbbbbbbbb", wrong, "differs"},
		{"arch@aaaaaaaaaaaa/ws01", "arch", wrong, "differs"},
		{"arch", "arch@aaaaaaaaaaaa", right, "yes"},
		{"arch", "arch@aaaaaaaaaaaa", wrong, "differs"},
		{"arch", "arch", wrong, "no"},
	} {
		got := newNBDReport("127.0.0.1", c.asked, &nbdprobe.Result{Export: nbdprobe.Export{Name: c.name, Size: 1}, Bytes: 1, Digest: c.digest}, nbdFlags{})
		if got.Verified != c.want {
			t.Errorf("asked for %s, called %s, with %s: %s, want %s", c.asked, c.name, c.digest, got.Verified, c.want)
		}
	}
}
