package node

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Timeline is one boot of one machine: which stage it reached when.
type Timeline struct {
	Session    string    `json:"session"` // "" of a machine that did not boot from here, and uses an export
	Generation uint64    `json:"generation"`
	Started    time.Time `json:"started"`  // its first DISCOVER, or the first file it asked for; UTC
	Complete   bool      `json:"complete"` // it reported userland
	Stages     []Stage   `json:"stages"`   // in the order in which they were seen
}

// Stage is one step of a boot. The names are dhcp, loader (a boot program or a part
// of one), script (what configures it), kernel, initrd, attach (the root), what the machine itself reports (initramfs, attached, root,
// userland, shutdown), disk (what it may write is nearly, or quite, used up), and nak, failed, denied and the machine's own settle-failed for
// what went wrong.
type Stage struct {
	Name    string  `json:"stage"`
	Seconds float64 `json:"seconds"` // since Started, to the millisecond
	What    string  `json:"what,omitempty"`
}

// Stages that mean something here.
const (
	stageAttach = "attach"
	stageDenied = "denied"
	stageDisk   = "disk"
)

// Stages that a packet alone makes.
const (
	stageDHCP   = "dhcp"
	stageNak    = "nak"
	stageLoader = string(provider.AnswerLoader)
)

// Bounds of a timeline: a machine may ask for the same file for ever.
const (
	maxStages  = 40
	maxLoaders = 16 // of which loader: there are programs of very many parts
	maxWhat    = 160
	maxWhy     = 640 // of what went wrong: it says at its end what to do
)

// add notes a stage, once.
func (t *Timeline) add(at time.Time, name, what string) {
	longest := maxWhat
	if name == stageDenied || name == stageDisk {
		longest = maxWhy
	}
	name, what = printable(name, maxWhat), printable(what, longest)
	same := 0
	for _, s := range t.Stages {
		if s.Name == name && s.What == what {
			return
		}
		if s.Name == name {
			same++
		}
	}
	if len(t.Stages) >= maxStages || name == stageLoader && same >= maxLoaders {
		return
	}
	sec := math.Round(at.Sub(t.Started).Seconds()*1000) / 1000
	t.Stages = append(t.Stages, Stage{Name: name, Seconds: max(0, sec), What: what})
}

// printable makes of what a client sent something that a terminal may see, of so many
// bytes.
func printable(s string, longest int) string {
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			q := strconv.Quote(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}

// Text writes the timeline as a small table: seconds, stage, what.
func (t *Timeline) Text(w io.Writer) error {
	name := 0
	for _, s := range t.Stages {
		name = max(name, utf8.RuneCountInString(s.Name))
	}
	out := bufio.NewWriter(w)
	if t.Session == "" {
		fmt.Fprintf(out, "not booted from here; first seen at %s", t.Started.UTC().Format(time.RFC3339))
	} else {
		fmt.Fprintf(out, "boot of generation %d at %s", t.Generation, t.Started.UTC().Format(time.RFC3339))
	}
	if !t.Complete && t.Session != "" {
		fmt.Fprint(out, ", not complete")
	}
	fmt.Fprintln(out)
	for _, s := range t.Stages {
		line := fmt.Sprintf("  %8.2f s  %-*s  %s", s.Seconds, name, s.Name, s.What)
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
	return out.Flush()
}

// clone gives a copy that the tracker does not write to.
func (t *Timeline) clone() *Timeline {
	c := *t
	c.Stages = append([]Stage{}, t.Stages...)
	return &c
}

// size spells a size for people.
func size(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", (n+1<<19)>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", (n+1<<9)>>10)
	case n == 1:
		return "1 byte"
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
