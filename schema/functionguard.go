package schema

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// A guard looks at the arguments before a function does, and refuses a call whose
// result would be out of all proportion. Arguments are known and unmarked, but may
// be null where the function takes null.
type guard func(m *meter, args []cty.Value) error

var errTooMuch = errors.New("this takes too much work")

// guards is read only.
var guards = map[string]guard{
	"setproduct": guardProduct,
	"distinct":   guardDistinct,
	"toset":      guardSet, "setunion": guardSet, "setintersection": guardSet, "setsubtract": guardSet,
	"split":      guardSplit,
	"join":       guardJoin,
	"replace":    guardReplace,
	"indent":     guardIndent,
	"format":     guardFormat,
	"formatlist": guardFormat,
	"trim":       guardTrim,
	"regex":      guardRegex,
	"regexall":   guardRegex,
	"parseint":   guardDigits,
	"tonumber":   guardDigits,
	"csvdecode":  guardCSV,
	"jsondecode": guardJSON,
	"yamldecode": guardYAML,
}

// guarded puts check in front of f.
func (l *loader) guarded(f function.Function, check guard) function.Function {
	return function.New(&function.Spec{
		Params: f.Params(), VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			for _, a := range args {
				w := weight{}
				if w.add(a, 0); w.unknown {
					return f.ReturnTypeForValues(args)
				}
			}
			if err := check(l.meter, args); err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

// afford takes steps and text from the meter, or says that there is not enough left.
func (m *meter) afford(steps, text int64) error {
	m.steps += steps
	m.text += text
	if m.steps > m.limit || m.text > maxText {
		return errTooMuch
	}
	return nil
}

// makes checks the size of a text before it is made.
func (m *meter) makes(bytes float64) error {
	if bytes > maxDataBytes {
		return fmt.Errorf("the result would be larger than %s", formatSize(maxDataBytes))
	}
	return m.afford(1+int64(bytes)/bytesPerStep, int64(bytes))
}

func str(v cty.Value) string {
	if v.IsNull() || v.Type() != cty.String {
		return ""
	}
	return v.AsString()
}

func length(v cty.Value) int {
	if v.IsNull() || !v.CanIterateElements() {
		return 0
	}
	return v.LengthInt()
}

func guardProduct(m *meter, args []cty.Value) error {
	n := 1
	for _, a := range args {
		if n *= length(a); n*len(args) > maxElements {
			return fmt.Errorf("the result would have more than %d elements", maxElements)
		}
	}
	return m.afford(int64(n*len(args)), 0)
}

// guardDistinct: each element is compared with all before it, but for text.
func guardDistinct(m *meter, args []cty.Value) error {
	if args[0].Type().Equals(cty.List(cty.String)) {
		return nil
	}
	n := int64(length(args[0]))
	w := weight{}
	w.add(args[0], 0)
	return m.afford(n*w.work, 0)
}

// guardSet: sets hash their elements in a way that anybody can make collide, and then
// compare each with each.
func guardSet(m *meter, args []cty.Value) error {
	n := 0
	for _, a := range args {
		n += length(a)
	}
	if n > maxSet {
		return fmt.Errorf("a set may have %d elements; use a map", maxSet)
	}
	return m.afford(int64(n), 0)
}

func guardSplit(m *meter, args []cty.Value) error {
	n := strings.Count(str(args[1]), str(args[0]))
	if n > maxCells {
		return fmt.Errorf("the result would have more than %d elements", maxCells)
	}
	return m.afford(6*int64(n)+int64(len(str(args[1])))/bytesPerStep, 0)
}

func guardJoin(m *meter, args []cty.Value) error {
	size := 0.0
	for _, list := range args[1:] {
		if list.IsNull() {
			continue
		}
		for it := list.ElementIterator(); it.Next(); {
			_, v := it.Element()
			size += float64(len(str(args[0])) + len(str(v)))
		}
	}
	return m.makes(size)
}

func guardReplace(m *meter, args []cty.Value) error {
	s, old, with := str(args[0]), str(args[1]), str(args[2])
	n := strings.Count(s, old)
	if err := m.afford(int64(n), 0); err != nil {
		return err
	}
	return m.makes(float64(len(s)) + float64(n)*float64(len(with)))
}

func guardIndent(m *meter, args []cty.Value) error {
	n, err := whole(args[0])
	if err != nil || n < 0 || n > 1000 {
		return errors.New("the indentation is between 0 and 1000")
	}
	s := str(args[1])
	return m.makes(float64(len(s)) + float64(n)*float64(strings.Count(s, "\n")+1))
}

// flags finds what stands between a percent sign and its verb.
var (
	flags  = regexp.MustCompile(`%[^a-zA-Z%]*`)
	digits = regexp.MustCompile(`[0-9]+`)
)

func guardFormat(m *meter, args []cty.Value) error {
	f := str(args[0])
	verbs, width := 0.0, 0.0
	for _, part := range flags.FindAllString(f, -1) {
		verbs++
		for _, n := range digits.FindAllString(part, -1) {
			if len(n) > 3 {
				return errors.New("a width has at most three digits")
			}
			w, _ := strconv.Atoi(n)
			width = max(width, float64(w))
		}
	}
	// formatlist takes one element of every list in each row; everything else is
	// repeated in all rows. A verb may show the largest argument.
	rows, repeated, spread := 1, 0.0, 0.0
	for _, a := range args[1:] {
		w := weight{}
		w.add(a, 0)
		size := float64(2*w.text + 64*w.nodes)
		if ty := a.Type(); ty.IsListType() || ty.IsSetType() || ty.IsTupleType() {
			rows = max(rows, length(a))
			spread = max(spread, size)
		} else {
			repeated = max(repeated, size)
		}
	}
	return m.makes(float64(rows)*(float64(len(f))+verbs*(repeated+width)) + verbs*spread)
}

// guardTrim: each character of the text may be looked for among all that are trimmed.
func guardTrim(m *meter, args []cty.Value) error {
	s, cut := str(args[0]), str(args[1])
	if len(cut) > 1000 {
		return errors.New("at most 1000 bytes of characters can be trimmed")
	}
	return m.afford(int64(len(s))*int64(len(cut))/128, 0)
}

// guardRegex: matching takes the size of the program times the size of the text. It is
// compiled more than once.
func guardRegex(m *meter, args []cty.Value) error {
	pattern, s := str(args[0]), str(args[1])
	if len(pattern) > 1000 {
		return errors.New("a pattern has at most 1000 characters")
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return fmt.Errorf("invalid pattern: %w", err)
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return fmt.Errorf("invalid pattern: %w", err)
	}
	return m.afford(int64(len(prog.Inst))*(6+int64(len(s))/32), int64(len(s)))
}

func guardDigits(_ *meter, args []cty.Value) error {
	if len(str(args[0])) > maxNumberText {
		return errors.New("this text is too long for a number")
	}
	return nil
}

func guardText(m *meter, args []cty.Value) error {
	s := str(args[0])
	if len(s) > maxDataBytes {
		return fmt.Errorf("the text is larger than %s", formatSize(maxDataBytes))
	}
	return m.afford(int64(len(s))/4, 0)
}

func guardJSON(m *meter, args []cty.Value) error {
	if err := guardText(m, args); err != nil {
		return err
	}
	s := str(args[0])
	if d := checkJSON([]byte(s), ""); d != nil {
		return errors.New(d.Detail)
	}
	return m.afford(jsonSteps*int64(1+strings.Count(s, ",")+strings.Count(s, "[")+strings.Count(s, "{")), 0)
}

// guardYAML: the parser makes a node of every word.
func guardYAML(m *meter, args []cty.Value) error {
	if err := guardText(m, args); err != nil {
		return err
	}
	return m.afford(yamlSteps*int64(words(str(args[0]))), 0)
}

func guardCSV(m *meter, args []cty.Value) error {
	if err := guardText(m, args); err != nil {
		return err
	}
	s := str(args[0])
	rows := strings.Count(s, "\n")
	n := strings.Count(s, ",") + rows
	if n > maxCells {
		return fmt.Errorf("the table has more than %d cells", maxCells)
	}
	return m.afford(cellSteps*int64(n)+rowSteps*int64(rows), 0)
}
