package plan

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// room is how many columns a value may take beside names of the given width.
func (t *text) room(width int) int {
	if t.opts.Width <= 0 {
		return 2 * maxValue
	}
	return max(2*minValue, t.opts.Width-width-6)
}

// empty reports whether a value says nothing: a created resource has many of them.
func empty(raw json.RawMessage) bool {
	switch string(raw) {
	case "null", `""`, "[]", "{}":
		return true
	}
	return false
}

func cut(s string, room int) string {
	if utf8.RuneCountInString(s) <= room {
		return s
	}
	return string([]rune(s)[:room-1]) + "…"
}

// cutBoth cuts two long values so that the place where they begin to differ shows.
func cutBoth(a, b string, room int) (string, string) {
	ra, rb := []rune(a), []rune(b)
	if max(len(ra), len(rb)) <= room {
		return a, b
	}
	same := 0
	for same < len(ra) && same < len(rb) && ra[same] == rb[same] {
		same++
	}
	if lead := room / 3; same > lead {
		ra, rb = ra[same-lead:], rb[same-lead:]
		return "…" + cut(string(ra), room-1), "…" + cut(string(rb), room-1)
	}
	return cut(a, room), cut(b, room)
}

// printable makes text safe for a terminal: characters that do not print are
// escaped as in Go source.
func printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			q := strconv.Quote(s)
			q = q[1 : len(q)-1]
			return strings.ReplaceAll(q, `\"`, `"`)
		}
	}
	return s
}
