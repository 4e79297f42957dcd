package schema

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Addr names one resource. It is a value: comparable, usable as a map key, and
// spelled one way everywhere: `image.arch`, `export.nbd.arch`,
// `bootloader.ipxe.menu`, `host.ws["ws02"]`.
//
// The zero Addr names nothing; String gives "".
type Addr struct {
	Kind string // block type: "image", "export", "host", …
	Type string // first label of a two-label block: "nbd", "ipxe"; else ""
	Name string // last label
	Key  string // for_each key; "" when the block has none
}

// IsZero reports whether a names nothing.
func (a Addr) IsZero() bool { return a == Addr{} }

// String gives the one spelling of the address.
func (a Addr) String() string {
	if a.IsZero() {
		return ""
	}
	var b strings.Builder
	b.WriteString(a.Kind)
	if a.Type != "" {
		b.WriteByte('.')
		b.WriteString(a.Type)
	}
	b.WriteByte('.')
	b.WriteString(a.Name)
	if a.Key != "" {
		b.WriteByte('[')
		b.WriteString(strconv.Quote(a.Key))
		b.WriteByte(']')
	}
	return b.String()
}

// ParseAddr reads what String writes. The empty string gives the zero Addr.
func ParseAddr(s string) (Addr, error) {
	var a Addr
	if s == "" {
		return a, nil
	}
	rest := s
	if i := strings.IndexByte(rest, '['); i >= 0 {
		if !strings.HasSuffix(rest, "]") {
			return Addr{}, fmt.Errorf("address %q: the key has no closing bracket", s)
		}
		key, err := strconv.Unquote(rest[i+1 : len(rest)-1])
		if err != nil || key == "" {
			return Addr{}, fmt.Errorf("address %q: the key must be a quoted string", s)
		}
		a.Key, rest = key, rest[:i]
	}
	parts := strings.Split(rest, ".")
	for _, p := range parts {
		if p == "" {
			return Addr{}, fmt.Errorf("address %q: empty part", s)
		}
	}
	switch len(parts) {
	case 2:
		a.Kind, a.Name = parts[0], parts[1]
	case 3:
		a.Kind, a.Type, a.Name = parts[0], parts[1], parts[2]
	default:
		return Addr{}, fmt.Errorf("address %q: want kind.name or kind.type.name", s)
	}
	return a, nil
}

// MarshalText makes an Addr a JSON string, and a JSON object key.
func (a Addr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Addr) UnmarshalText(b []byte) error {
	got, err := ParseAddr(string(b))
	if err != nil {
		return err
	}
	*a = got
	return nil
}

// Compare orders addresses: by kind, type, name, key. It is the order of every
// list in a plan.
func (a Addr) Compare(b Addr) int {
	for _, c := range [...]int{
		strings.Compare(a.Kind, b.Kind),
		strings.Compare(a.Type, b.Type),
		strings.Compare(a.Name, b.Name),
		strings.Compare(a.Key, b.Key),
	} {
		if c != 0 {
			return c
		}
	}
	return 0
}

// Range is where something was written: a file of the tree (slash-separated,
// relative to the loaded folder), and a 1-based line and column.
// The zero Range means "nowhere": a default, or something the daemon added.
type Range struct {
	File   string
	Line   int
	Column int
}

// String spells a range "site.hcl:6,1", and the zero Range "".
func (r Range) String() string {
	if r.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d,%d", r.File, r.Line, r.Column)
}

// HCL gives the range as diagnostics have it: empty, at the place.
func (r Range) HCL() hcl.Range {
	pos := hcl.Pos{Line: r.Line, Column: r.Column}
	return hcl.Range{Filename: r.File, Start: pos, End: pos}
}

// MarshalText spells the range as String does.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Range) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" {
		*r = Range{}
		return nil
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return fmt.Errorf("range %q: want file:line,column", s)
	}
	line, col, ok := strings.Cut(s[i+1:], ",")
	l, err1 := strconv.Atoi(line)
	c, err2 := strconv.Atoi(col)
	if !ok || err1 != nil || err2 != nil {
		return fmt.Errorf("range %q: want file:line,column", s)
	}
	*r = Range{File: s[:i], Line: l, Column: c}
	return nil
}
