package plan

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// nested takes two values apart that both are lists, maps, or texts of which one has
// several lines; ok is false for any others.
func nested(before, after json.RawMessage) (parts []part, ok bool) {
	if len(before) == 0 || len(after) == 0 || before[0] != after[0] {
		return nil, false
	}
	switch before[0] {
	case '[':
		var was, is []json.RawMessage
		if json.Unmarshal(before, &was) != nil || json.Unmarshal(after, &is) != nil {
			return nil, false
		}
		return elements(was, is), true
	case '{':
		var was, is map[string]json.RawMessage
		if json.Unmarshal(before, &was) != nil || json.Unmarshal(after, &is) != nil {
			return nil, false
		}
		return members(was, is), true
	case '"':
		var was, is string
		if json.Unmarshal(before, &was) != nil || json.Unmarshal(after, &is) != nil || !severalLines(was) && !severalLines(is) {
			return nil, false
		}
		return lines(was, is), true
	}
	return nil, false
}

func elements(was, is []json.RawMessage) []part {
	spelled := func(list []json.RawMessage) []string {
		out := make([]string, len(list))
		for i, raw := range list {
			out[i] = string(raw)
		}
		return out
	}
	var parts []part
	for _, e := range edits(spelled(was), spelled(is)) {
		parts = append(parts, part{e.action(), shown(json.RawMessage(e.text))})
	}
	return parts
}

func members(was, is map[string]json.RawMessage) []part {
	keys := slices.Sorted(maps.Keys(was))
	for k := range is {
		if _, both := was[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var parts []part
	for _, k := range keys {
		b, had := was[k]
		a, has := is[k]
		name := printable(string(quote(k))) + " = "
		switch {
		case !had:
			parts = append(parts, part{Create, name + shown(a)})
		case !has:
			parts = append(parts, part{Delete, name + shown(b)})
		case string(a) == string(b):
			parts = append(parts, part{NoOp, name + shown(a)})
		default:
			x, y := cutBoth(shown(b), shown(a), maxValue/2)
			parts = append(parts, part{Update, name + x + " -> " + y})
		}
	}
	return parts
}

// severalLines reports whether a text has a line end before its last character.
func severalLines(s string) bool {
	n := strings.IndexByte(s, '\n')
	return n >= 0 && n < len(s)-1
}

func lines(was, is string) []part {
	var parts []part
	for _, e := range edits(splitLines(was), splitLines(is)) {
		line, ended := strings.CutSuffix(e.text, "\n")
		line = printable(line)
		if !ended {
			line += " # no line end"
		}
		parts = append(parts, part{e.action(), line})
	}
	return parts
}

// splitLines keeps the line ends, so that a missing one is a difference.
func splitLines(s string) []string {
	list := strings.SplitAfter(s, "\n")
	if list[len(list)-1] == "" {
		list = list[:len(list)-1]
	}
	return list
}

func (e edit) action() Action {
	switch e.mark {
	case '+':
		return Create
	case '-':
		return Delete
	}
	return NoOp
}
