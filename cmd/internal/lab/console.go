package lab

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	maxLine    = 64 << 10 // bytes of a console line; a longer one is split
	maxConsole = 8 << 20  // bytes of console text kept; the oldest lines go first
	// settle is how long an unfinished line must have stood still to be looked at: a
	// prompt does, half a number does not.
	settle = 250 * time.Millisecond
)

// ErrExited is what waiting for a machine's console gives once no more can come.
var ErrExited = errors.New("machine has exited")

// console keeps what a serial console has shown, as lines without control
// characters. One goroutine writes, any number read.
type console struct {
	mu      sync.Mutex
	lines   []shown // whole lines
	dropped int     // how many lines went before lines[0]
	size    int     // bytes in lines
	last    []byte  // raw bytes of the unfinished line
	cr      bool    // a carriage return came behind them
	at      time.Time
	ended   bool
	grown   chan struct{} // closed and replaced whenever something changes
}

// shown is one whole line.
type shown struct {
	text string
	at   time.Time // its end came
}

func newConsole() *console { return &console{grown: make(chan struct{})} }

// follow takes what the machine shows until r ends.
func (c *console) follow(r io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		c.add(buf[:n], err != nil)
		if err != nil {
			return
		}
	}
}

func (c *console) add(p []byte, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Now()
	for _, b := range p {
		c.take(b)
	}
	c.ended = c.ended || ended
	close(c.grown)
	c.grown = make(chan struct{})
}

// take adds one byte. A line ends with LF, CR LF or, when what follows overwrites it,
// CR alone; then it is dropped if there is nothing to see. The caller holds mu.
func (c *console) take(b byte) {
	switch {
	case b == '\r':
		c.cr = true
		return
	case b == '\n':
		c.push()
	case c.cr && strings.TrimSpace(plain(string(c.last))) == "":
		c.last = c.last[:0]
	case c.cr, len(c.last) >= maxLine:
		c.push()
	}
	c.cr = false
	if b != '\n' {
		c.last = append(c.last, b)
	}
}

// push ends a line. The caller holds mu.
func (c *console) push() {
	line := plain(string(c.last))
	c.last = c.last[:0]
	c.lines = append(c.lines, shown{line, c.at})
	c.size += len(line) + 1
	for c.size > maxConsole {
		c.size -= len(c.lines[0].text) + 1
		c.lines = c.lines[1:]
		c.dropped++
	}
}

// mark is the number of whole lines so far.
func (c *console) mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped + len(c.lines)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, line := range c.lines {
		b.WriteString(line.text)
		b.WriteByte('\n')
	}
	b.WriteString(plain(string(c.last)))
	return b.String()
}

// when gives the time of the first whole line that matches.
func (c *console) when(re *regexp.Regexp) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.lines {
		if re.MatchString(line.text) {
			return line.at, true
		}
	}
	return time.Time{}, false
}

// wait gives the first line that matches from line number from on.
func (c *console) wait(ctx context.Context, re *regexp.Regexp, from int) (string, error) {
	for {
		c.mu.Lock()
		for i := max(from-c.dropped, 0); i < len(c.lines); i++ {
			if line := c.lines[i].text; re.MatchString(line) {
				c.mu.Unlock()
				return line, nil
			}
		}
		from = max(from, c.dropped+len(c.lines))
		last, at, ended, grown := "", c.at, c.ended, c.grown
		if from == c.dropped+len(c.lines) {
			last = plain(string(c.last))
		}
		c.mu.Unlock()

		var settled <-chan time.Time
		if last != "" && re.MatchString(last) {
			rest := settle - time.Since(at)
			if ended || rest <= 0 {
				return last, nil
			}
			settled = time.After(rest)
		} else if ended {
			return "", ErrExited
		}
		select {
		case <-grown:
		case <-settled:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// plain removes what a terminal would not show: escape sequences (ECMA-48 section
// 5.4, and the two-byte ones), control characters other than tab, and what is not
// UTF-8.
func plain(s string) string {
	s = strings.ToValidUTF8(s, "")
	if strings.IndexFunc(s, control) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == 0x1b && i+1 < len(s):
			i += escapeLen(s[i+1:])
		case control(rune(s[i])):
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func control(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }

// escapeLen is the length of the escape sequence in s, which begins behind its ESC.
func escapeLen(s string) int {
	within := func(b byte, lo, hi byte) bool { return b >= lo && b <= hi }
	i := 1
	if s[0] == '[' {
		for i < len(s) && within(s[i], 0x30, 0x3f) {
			i++
		}
	} else if !within(s[0], 0x20, 0x2f) {
		return 1
	}
	for i < len(s) && within(s[i], 0x20, 0x2f) {
		i++
	}
	if i < len(s) && within(s[i], 0x30, 0x7e) {
		i++
	}
	return i
}

// tail is the end of the text, for messages.
func (c *console) tail(lines int) string {
	all := strings.Split(strings.TrimRight(c.String(), "\n "), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
