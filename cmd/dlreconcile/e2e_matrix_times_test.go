package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/cmd/internal/wire"
)

// tableVar names a file that the tables of boot times are appended to.
const tableVar = "DLRECONCILE_BOOT_TABLE"

// stages are the times of one boot since power-on.
type stages struct {
	ack      time.Duration // the firmware has its address
	loader   time.Duration // all that comes before the kernel is there: the kernel is asked for
	kernel   time.Duration // it is there
	initrd   time.Duration // all of them are there
	userland time.Duration
}

// stagesOf reads the times out of a capture and the console. kernel and initrds are
// digests; up is what the console shows in userland.
func stagesOf(m *lab.Machine, seen *wire.Traffic, kernel string, initrds map[string]bool, up *regexp.Regexp) (stages, error) {
	var s stages
	since := func(at time.Time) time.Duration { return at.Sub(m.Began()) }
	for _, x := range seen.Exchanges() {
		if ack, ok := x.Acknowledged(); ok {
			s.ack = since(ack.At)
			break
		}
	}
	for _, f := range seen.Fetches() {
		switch {
		case f.Digest == kernel:
			s.loader, s.kernel = since(f.At), since(f.End)
		case initrds[f.Digest]:
			s.initrd = max(s.initrd, since(f.End))
		}
	}
	at, ok := m.ConsoleTime(up)
	s.userland = since(at)
	if s.ack == 0 || s.kernel == 0 || s.initrd == 0 || !ok {
		return s, fmt.Errorf("%s: some stage was not seen: %+v, userland %v", m.Name(), s, ok)
	}
	return s, nil
}

func (s stages) list() []time.Duration {
	return []time.Duration{s.ack, s.loader, s.kernel, s.initrd, s.userland}
}

// timeTable collects rows from several boots at once.
type timeTable struct {
	mu   sync.Mutex // guards rows
	rows map[string]map[string]stages
}

func newTimeTable() *timeTable { return &timeTable{rows: map[string]map[string]stages{}} }

// add notes the boot of one way by one side.
func (t *timeTable) add(name, side string, s stages) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows[name] == nil {
		t.rows[name] = map[string]stages{}
	}
	t.rows[name][side] = s
}

// text prints the ways in their order, one line for each side. Every stage is given as
// seconds since power-on, and behind it what the stage itself took.
func (t *timeTable) text(title string, ways []way, sides ...string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%-16s %-6s", title, "seconds", "")
	for _, head := range []string{"DHCP ack", "loader", "kernel", "initrd", "userland"} {
		fmt.Fprintf(&b, " %15s", head)
	}
	b.WriteByte('\n')
	for _, w := range ways {
		for _, side := range sides {
			s, ok := t.rows[w.name][side]
			if !ok {
				continue
			}
			fmt.Fprintf(&b, "%-16s %-6s", w.name, side)
			var before time.Duration
			for _, at := range s.list() {
				fmt.Fprintf(&b, " %6.2f (%+6.2f)", at.Seconds(), (at - before).Seconds())
				before = at
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// show prints a table, and keeps it where somebody asked for it.
func show(t *testing.T, table string) {
	t.Helper()
	t.Logf("\n%s", table)
	file := os.Getenv(tableVar)
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(table + "\n"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
