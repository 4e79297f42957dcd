package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A shell knows what may stand behind every flag that takes a value: what the program
// says, or a file.
func TestEveryFlagIsCompleted(t *testing.T) {
	files := []string{"config", "token-file", "socket", "observed", "out", "age-identity", "api-token-file", "api-cert", "api-key", "api-ca", "tls-ca", "tls-cert", "tls-key"}
	c := &cli{streams: streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}}
	flags := 0
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		look := func(f *pflag.Flag) {
			if f.Value.Type() == "bool" {
				return
			}
			flags++
			if _, ok := cmd.GetFlagCompletionFunc(f.Name); ok == slices.Contains(files, f.Name) {
				t.Errorf("%s --%s: completed %t, want the other", cmd.CommandPath(), f.Name, ok)
			}
		}
		cmd.LocalFlags().VisitAll(look)
		for _, sub := range cmd.Commands() {
			if sub.Name() != "completion" {
				visit(sub)
			}
		}
	}
	visit(c.rootCommand())
	if flags < 20 {
		t.Errorf("only %d flags", flags)
	}
}
