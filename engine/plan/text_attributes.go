package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// attribute is one attribute that differs, as text shows it.
type attribute struct {
	name          string
	before, after json.RawMessage // nil: it was, or is, not there
	forces        bool            // the resource to be replaced
}

// differing lists what the text shows of a change, sorted by name. Attributes that
// differ in a number in brackets only, like "pool[0].range", are one list,
// "pool[*].range", when several of them differ: what counts is what is in it, and an
// element put in front changes nothing of the others.
func differing(ch *Change) []attribute {
	set := map[string]bool{}
	for name := range ch.Before {
		set[name] = true
	}
	for name, raw := range ch.After {
		if _, was := ch.Before[name]; was || !empty(raw) {
			set[name] = true
		}
	}
	numbered := map[string]int{} // how many there are of a list
	for name := range set {
		if list, ok := listName(name); ok && ch.Action != Create {
			numbered[list]++
		}
	}
	byName := map[string]attribute{}
	for name := range set {
		if isPseudo(ch, name) {
			continue
		}
		forces := slices.Contains(ch.ForcedBy, name)
		if list, _ := listName(name); numbered[list] > 1 {
			byName[list] = attribute{list, gathered(ch.Before, list), gathered(ch.After, list), forces || byName[list].forces}
			continue
		}
		byName[name] = attribute{name, ch.Before[name], ch.After[name], forces}
	}
	out := make([]attribute, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}

// listName replaces the first number in brackets by a star.
func listName(name string) (list string, numbered bool) {
	open := strings.IndexByte(name, '[')
	if open < 0 {
		return name, false
	}
	end := strings.IndexByte(name[open:], ']')
	if end < 0 {
		return name, false
	}
	if _, err := strconv.ParseUint(name[open+1:open+end], 10, 31); err != nil {
		return name, false
	}
	return name[:open] + "[*" + name[open+end:], true
}

// gathered makes one list, in order, of the attributes that have a name but for their
// numbers; nil when there are none.
func gathered(attrs map[string]json.RawMessage, list string) json.RawMessage {
	type element struct {
		number uint64
		value  []byte
	}
	var all []element
	for name, raw := range attrs {
		if l, ok := listName(name); ok && l == list {
			_, rest, _ := strings.Cut(name, "[")
			digits, _, _ := strings.Cut(rest, "]")
			n, _ := strconv.ParseUint(digits, 10, 31) // listName has seen that it is one
			all = append(all, element{n, raw})
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b element) int { return cmp.Compare(a.number, b.number) })
	values := make([][]byte, len(all))
	for i, e := range all {
		values[i] = e.value
	}
	return slices.Concat([]byte("["), bytes.Join(values, []byte(",")), []byte("]"))
}

func (t *text) attributes(ch *Change) {
	if ch.Action == Delete {
		return
	}
	list := differing(ch)
	width := 0
	for _, a := range list {
		width = max(width, utf8.RuneCountInString(printable(a.name)))
	}
	for _, a := range list {
		t.attribute(a, width)
	}
}

// forcesReplacement is what Terraform says, too.
const forcesReplacement = " # forces replacement"

// attribute prints one: what is new or gone on a line, lists, maps and texts of several
// lines part by part below one, and everything else as "before -> after".
func (t *text) attribute(a attribute, width int) {
	name := fmt.Sprintf("%-*s", width, printable(a.name))
	room, forces := t.room(width), ""
	if a.forces {
		forces = forcesReplacement
		room = max(minValue, room-len(forces))
	}
	switch {
	case a.before == nil:
		t.line("  " + t.paint(Create, "+ "+name) + "  " + cut(shown(a.after), room) + forces)
		return
	case a.after == nil:
		t.line("  " + t.paint(Delete, "- "+name) + "  " + cut(shown(a.before), room) + forces)
		return
	case isMasked(a.before) || isMasked(a.after):
		t.line("  " + t.paint(Update, "~ "+name) + "  " + Masked + forces)
		return
	}
	if parts, ok := nested(a.before, a.after); ok {
		t.line("  " + t.paint(Update, "~ "+printable(a.name)) + forces)
		t.parts(parts)
		return
	}
	b, is := cutBoth(shown(a.before), shown(a.after), (room-4)/2)
	t.line("  " + t.paint(Update, "~ "+name) + "  " + b + " -> " + is + forces)
}

func isMasked(raw json.RawMessage) bool { return string(raw) == string(quote(Masked)) }

// shown is a value as text has it.
func shown(raw json.RawMessage) string {
	if isMasked(raw) {
		return Masked
	}
	return printable(string(raw))
}

// part is one line below an attribute.
type part struct {
	action Action // NoOp: the same on both sides
	text   string
}

// maxParts bounds what is shown of one attribute.
const maxParts = 2 * maxNames

// parts prints what differs inside of an attribute; what is the same is counted.
func (t *text) parts(list []part) {
	told := 0
	for n := 0; n < len(list); {
		if list[n].action != NoOp {
			if told == maxParts {
				rest := 0
				for _, p := range list[n:] {
					if p.action != NoOp {
						rest++
					}
				}
				t.line(fmt.Sprintf("      # and %d more that differ", rest))
				return
			}
			mark, _ := sign(list[n].action)
			t.line("      " + t.paint(list[n].action, mark+" "+cut(list[n].text, t.room(6))))
			told++
			n++
			continue
		}
		same := n
		for n < len(list) && list[n].action == NoOp {
			n++
		}
		if n-same == 1 {
			t.line("        " + cut(list[same].text, t.room(6)))
		} else {
			t.line(fmt.Sprintf("      # %d unchanged", n-same))
		}
	}
}
