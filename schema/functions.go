package schema

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions gives the functions of the language, besides try, can and templatefile,
// which evaluate their arguments in their own way. None of them knows the time, the
// network, the environment or a random number. What could make much out of little is
// behind a guard (functionguard.go).
func (l *loader) functions() map[string]function.Function {
	fs := map[string]function.Function{
		// Numbers.
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "log": stdlib.LogFunc,
		"max": stdlib.MaxFunc, "min": stdlib.MinFunc, "parseint": stdlib.ParseIntFunc, "pow": stdlib.PowFunc,
		"signum": stdlib.SignumFunc,
		// Text.
		"chomp": stdlib.ChompFunc, "format": stdlib.FormatFunc, "formatlist": stdlib.FormatListFunc,
		"indent": stdlib.IndentFunc, "join": stdlib.JoinFunc, "lower": stdlib.LowerFunc, "regex": stdlib.RegexFunc,
		"regexall": stdlib.RegexAllFunc, "replace": stdlib.ReplaceFunc, "split": stdlib.SplitFunc,
		"strlen": stdlib.StrlenFunc, "strrev": stdlib.ReverseFunc, "substr": stdlib.SubstrFunc, "title": stdlib.TitleFunc,
		"trim": stdlib.TrimFunc, "trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc,
		"trimsuffix": stdlib.TrimSuffixFunc, "upper": stdlib.UpperFunc,
		"startswith": textTest(strings.HasPrefix), "endswith": textTest(strings.HasSuffix), "strcontains": textTest(strings.Contains),
		// Lists, sets and maps.
		"alltrue": truth(true), "anytrue": truth(false),
		"chunklist": stdlib.ChunklistFunc, "coalesce": stdlib.CoalesceFunc, "coalescelist": stdlib.CoalesceListFunc,
		"compact": stdlib.CompactFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc,
		"distinct": distinctFunc, "element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc,
		"keys": stdlib.KeysFunc, "length": lengthFunc, "lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc,
		"range": rangeFunc, "reverse": stdlib.ReverseListFunc, "setintersection": stdlib.SetIntersectionFunc,
		"setproduct": stdlib.SetProductFunc, "setsubtract": stdlib.SetSubtractFunc, "setunion": stdlib.SetUnionFunc,
		"slice": stdlib.SliceFunc, "sort": stdlib.SortFunc, "values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,
		// Types.
		"tobool": stdlib.MakeToFunc(cty.Bool), "tolist": stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)),
		"tomap": stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)), "tonumber": stdlib.MakeToFunc(cty.Number),
		"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)), "tostring": stdlib.MakeToFunc(cty.String),
		// Formats.
		"csvdecode": l.decodeFunc(decodeCSV), "jsondecode": l.decodeFunc(decodeJSON), "jsonencode": stdlib.JSONEncodeFunc,
		"yamldecode": l.decodeFunc(l.decodeYAML), "base64encode": base64EncodeFunc, "base64decode": base64DecodeFunc, "sha256": sha256Func,
		// Networks and files.
		"cidrhost": cidrHostFunc, "cidrnetmask": cidrNetmaskFunc, "cidrsubnet": cidrSubnetFunc,
		"file": l.fileFunc(), "secret": l.secretFunc(),
	}
	for name, check := range guards {
		fs[name] = l.guarded(fs[name], check)
	}
	return fs
}

func text(name string) function.Parameter { return function.Parameter{Name: name, Type: cty.String} }

// textFunc makes a function from text to text.
func textFunc(f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{text("text")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args[0].AsString())
			return cty.StringVal(s), err
		},
	})
}

func textTest(f func(s, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{text("text"), text("part")},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

// truth makes alltrue (of no elements: true) and anytrue (of no elements: false).
func truth(all bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				if !v.IsKnown() {
					return cty.UnknownVal(cty.Bool), nil
				}
				if !v.IsNull() && v.True() != all {
					return cty.BoolVal(!all), nil
				}
			}
			return cty.BoolVal(all), nil
		},
	})
}

// distinctFunc leaves out what was in the list before. Text, of which there may be a
// fleet's, is not compared with each other.
var distinctFunc = function.New(&function.Spec{
	Params: stdlib.DistinctFunc.Params(),
	Type:   func(args []cty.Value) (cty.Type, error) { return stdlib.DistinctFunc.ReturnTypeForValues(args) },
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		list := args[0]
		if !list.Type().Equals(cty.List(cty.String)) || !list.IsWhollyKnown() || list.LengthInt() == 0 {
			return stdlib.Distinct(list)
		}
		var out []cty.Value
		seen, null := map[string]bool{}, false
		for _, v := range list.AsValueSlice() {
			switch {
			case v.IsNull() && null, !v.IsNull() && seen[v.AsString()]:
				continue
			case v.IsNull():
				null = true
			default:
				seen[v.AsString()] = true
			}
			out = append(out, v)
		}
		return cty.ListVal(out), nil
	},
})

// lengthFunc is the length of a collection, or of text in characters.
var lengthFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType}},
	Type: func(args []cty.Value) (cty.Type, error) {
		ty := args[0].Type()
		if ty == cty.String || ty.IsCollectionType() || ty.IsTupleType() || ty.IsObjectType() {
			return cty.Number, nil
		}
		return cty.Number, errors.New("length takes text, a list, a set or a map")
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		switch ty := args[0].Type(); {
		case ty == cty.String:
			return stdlib.Strlen(args[0])
		case ty.IsObjectType():
			return cty.NumberIntVal(int64(len(ty.AttributeTypes()))), nil
		}
		return args[0].Length(), nil
	},
})

var base64EncodeFunc = textFunc(func(s string) (string, error) {
	return base64.StdEncoding.EncodeToString([]byte(s)), nil
})

var base64DecodeFunc = textFunc(func(s string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", errors.New("this is not base64")
	}
	if !utf8.Valid(b) {
		return "", errors.New("what comes out is not UTF-8 text")
	}
	return string(b), nil
})

var sha256Func = textFunc(func(s string) (string, error) {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:]), nil
})

// rangeFunc counts: range(3) is [0, 1, 2]; range(1, 4); range(0, 10, 5); range(3, 0).
var rangeFunc = function.New(&function.Spec{
	VarParam: &function.Parameter{Name: "limits", Type: cty.Number},
	Type:     function.StaticReturnType(cty.List(cty.Number)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if len(args) < 1 || len(args) > 3 {
			return cty.NilVal, errors.New("range takes the end, or the start and the end, and perhaps a step")
		}
		n := make([]int, len(args))
		for i, a := range args {
			var err error
			if n[i], err = whole(a); err != nil || abs(n[i]) > 1<<40 {
				return cty.NilVal, errors.New("range takes whole numbers of at most 40 bits")
			}
		}
		start, end, by := 0, n[0], 1
		if len(n) > 1 {
			start, end = n[0], n[1]
		}
		if end < start {
			by = -1
		}
		if len(n) == 3 {
			if by = n[2]; by == 0 || by > 0 != (end >= start) {
				return cty.NilVal, errors.New("with this step the end is never reached")
			}
		}
		if (end-start)/by > maxElements {
			return cty.NilVal, fmt.Errorf("the result would have more than %d elements", maxElements)
		}
		var out []cty.Value
		for i := start; by > 0 && i < end || by < 0 && i > end; i += by {
			out = append(out, cty.NumberIntVal(int64(i)))
		}
		if len(out) == 0 {
			return cty.ListValEmpty(cty.Number), nil
		}
		return cty.ListVal(out), nil
	},
})

// whole converts a number to an int, which it must be.
func whole(v cty.Value) (int, error) {
	v, err := convert.Convert(v, cty.Number)
	if err != nil {
		return 0, err
	}
	f := v.AsBigFloat()
	n, acc := f.Int64()
	if acc != 0 || !f.IsInt() || int64(int(n)) != n {
		return 0, fmt.Errorf("a whole number is needed")
	}
	return int(n), nil
}
