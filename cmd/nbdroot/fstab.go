package main

import (
	"fmt"
	"path"
	"strings"
)

// Our lines of fstab(5) stand between these two. A line of the image for the same
// mount point is put behind fstabOff, and is back when we have none for it.
const (
	fstabBegin = "# BEGIN dlreconcile"
	fstabEnd   = "# END dlreconcile"
	fstabOff   = "#dlreconcile# "
)

// fstabLine is a line of fstab.
type fstabLine struct {
	device, path, kind string
	options            []string // none is "defaults"
}

func (l fstabLine) String() string {
	options := strings.Join(l.options, ",")
	if options == "" {
		options = "defaults"
	}
	return fmt.Sprintf("%s %s %s %s 0 0", fstabEscape(l.device), fstabEscape(l.path), fstabEscape(l.kind), fstabEscape(options))
}

// fstabEscape spells a field: white space and backslash are octal, as getmntent(3)
// reads them, and so is "#", which begins a comment.
func fstabEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ', c == '\\', c == '#', c == 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// fstabPath reads the mount point of a line; "" when it is none.
func fstabPath(line string) string {
	f := strings.Fields(line)
	if len(f) < 2 || strings.HasPrefix(f[0], "#") {
		return ""
	}
	var b strings.Builder
	for s := f[1]; s != ""; {
		if len(s) >= 4 && s[0] == '\\' && strings.Trim(s[1:4], "01234567") == "" {
			b.WriteByte((s[1]-'0')<<6 | (s[2]-'0')<<3 | (s[3] - '0'))
			s = s[4:]
			continue
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return path.Clean(b.String())
}

// editFstab puts lines in place of those that it put there before.
func editFstab(text string, lines []fstabLine) string {
	ours := map[string]bool{}
	for _, l := range lines {
		ours[l.path] = true
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		if line == fstabBegin {
			if _, after, ok := strings.Cut(rest, fstabEnd+"\n"); ok {
				rest = after
			}
			continue
		}
		line = strings.TrimPrefix(line, fstabOff)
		if ours[fstabPath(line)] {
			line = fstabOff + line
		}
		b.WriteString(line + "\n")
	}
	if len(lines) == 0 {
		return b.String()
	}
	b.WriteString(fstabBegin + "\n")
	for _, l := range lines {
		b.WriteString(l.String() + "\n")
	}
	b.WriteString(fstabEnd + "\n")
	return b.String()
}
