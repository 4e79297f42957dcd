package schema

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Addr names one resource. It is a value: comparable, usable as a map key, and
// spelled one way everywhere: `image.arch`, `export.nbd.arch`,
// `bootloader.ipxe.menu`, `host.ws["ws02"]`, `module.rack["a"].host.ws["ws02"]`.
//
// The zero Addr names nothing; String gives "".
type Addr struct {
	Module string // "module.rack[\"a\"]", and ".module.…" for one inside; "" in the root
	Kind   string // block type: "image", "export", "host", …
	Type   string // first label of a two-label block: "nbd", "ipxe"; else ""
	Name   string // last label
	Key    string // for_each key; "" when the block has none
}

// IsZero reports whether a names nothing.
func (a Addr) IsZero() bool { return a == Addr{} }

// String gives the one spelling of the address.
func (a Addr) String() string {
	if a.IsZero() {
		return ""
	}
	var b strings.Builder
	if a.Module != "" {
		b.WriteString(a.Module)
		b.WriteByte('.')
	}
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
	steps, err := splitAddr(s)
	if err != nil {
		return a, err
	}
	for len(steps) > 2 && steps[0].name == "module" {
		if steps[0].key != "" {
			return a, fmt.Errorf("address %q: want module.name", s)
		}
		if a.Module != "" {
			a.Module += "."
		}
		a.Module += "module." + steps[1].String()
		steps = steps[2:]
	}
	for _, step := range steps[:len(steps)-1] {
		if step.key != "" {
			return Addr{}, fmt.Errorf("address %q: a key stands at the end", s)
		}
	}
	switch len(steps) {
	case 2:
		a.Kind = steps[0].name
	case 3:
		a.Kind, a.Type = steps[0].name, steps[1].name
	default:
		return Addr{}, fmt.Errorf("address %q: want kind.name or kind.type.name", s)
	}
	last := steps[len(steps)-1]
	a.Name, a.Key = last.name, last.key
	return a, nil
}

// addrStep is a name between dots, and the key after it.
type addrStep struct{ name, key string }

func (s addrStep) String() string {
	if s.key == "" {
		return s.name
	}
	return s.name + "[" + strconv.Quote(s.key) + "]"
}

// splitAddr cuts an address at its dots, those in keys left alone.
func splitAddr(s string) ([]addrStep, error) {
	var steps []addrStep
	for rest := s; ; {
		n := strings.IndexAny(rest, ".[")
		if n < 0 {
			n = len(rest)
		}
		step := addrStep{name: rest[:n]}
		if step.name == "" {
			return nil, fmt.Errorf("address %q: empty part", s)
		}
		rest = rest[n:]
		if strings.HasPrefix(rest, "[") {
			text, err := strconv.QuotedPrefix(rest[1:])
			if err != nil {
				return nil, fmt.Errorf("address %q: the key must be a quoted string", s)
			}
			if rest = rest[1+len(text):]; !strings.HasPrefix(rest, "]") {
				return nil, fmt.Errorf("address %q: the key has no closing bracket", s)
			}
			rest = rest[1:]
			if step.key, err = strconv.Unquote(text); err != nil || step.key == "" {
				return nil, fmt.Errorf("address %q: the key must be a quoted string", s)
			}
		}
		steps = append(steps, step)
		if rest == "" {
			return steps, nil
		}
		if rest[0] != '.' {
			return nil, fmt.Errorf("address %q: want a dot after the key", s)
		}
		rest = rest[1:]
	}
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

// Compare orders addresses: by module, kind, type, name, key. It is the order of every
// list in a plan.
func (a Addr) Compare(b Addr) int {
	for _, c := range [...]int{
		strings.Compare(a.Module, b.Module),
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
