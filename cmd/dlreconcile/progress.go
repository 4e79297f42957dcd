package main

import (
	"fmt"
	"net/url"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// progressLine prints one line for each new step of long work, on stderr; with
// --json nothing.
func (c *cli) progressLine() func(provider.Progress) {
	if c.json {
		return nil
	}
	type step struct{ addr, name string }
	last := map[step]string{}
	return func(p provider.Progress) {
		s := step{p.Addr.String(), p.Step}
		if last[s] == p.Text {
			return
		}
		first := last[s] == ""
		last[s] = p.Text
		// A pipe gets one line for each step, a terminal every line.
		if !first && !isTerminal(c.err) {
			return
		}
		percent := ""
		if p.Total > 0 {
			percent = fmt.Sprintf(" %d%%", 100*p.Done/p.Total)
		}
		fmt.Fprintf(c.err, "%s: %s%s: %s\n", p.Addr, p.Step, percent, clean(p.Text))
	}
}

// followStatus prints the progress that statuses carry.
func (c *cli) followStatus() func(engine.Status) {
	line := c.progressLine()
	if line == nil {
		return nil
	}
	return func(s engine.Status) {
		for _, p := range s.Progress {
			line(p)
		}
	}
}

func query(name, value string) url.Values {
	v := url.Values{}
	if value != "" {
		v.Set(name, value)
	}
	return v
}
