package schema

import (
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// decodeFunc makes a function of what reads a text. Calling a function asks it more
// than once for the type of its result, which only reading the text tells; so the last
// text, and what it gave, is remembered. The steps are taken each time.
func (l *loader) decodeFunc(read func(text string) (v cty.Value, steps int64, err error)) function.Function {
	var last string
	var value cty.Value
	var steps int64
	var failed error
	decode := func(text string) (cty.Value, error) {
		if text != last || value == cty.NilVal && failed == nil {
			last = text
			value, steps, failed = read(text)
		}
		if err := l.meter.afford(steps, 0); err != nil {
			return cty.NilVal, err
		}
		return value, failed
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{text("text")},
		Type: func(args []cty.Value) (cty.Type, error) {
			if !args[0].IsKnown() {
				return cty.DynamicPseudoType, nil
			}
			v, err := decode(args[0].AsString())
			if err != nil {
				return cty.NilType, err
			}
			return v.Type(), nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return decode(args[0].AsString()) },
	})
}

// decodeCSV reads RFC 4180 with a header line. Spreadsheets begin their files with a
// byte order mark, which is not part of the first column's name.
func decodeCSV(text string) (v cty.Value, steps int64, err error) {
	v, err = stdlib.CSVDecode(cty.StringVal(strings.TrimPrefix(text, "\uFEFF")))
	return v, 0, err // its guard has charged
}

func decodeJSON(text string) (v cty.Value, steps int64, err error) {
	v, err = stdlib.JSONDecode(cty.StringVal(text))
	return v, 0, err
}
