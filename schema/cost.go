package schema

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// What work costs, in steps. Measured on one core of a small server, a step is about a
// tenth of a microsecond; so all steps there are (maxSteps) are gone after about a
// second, whatever they were spent on. Steps and not a clock, so that a tree which
// loads here loads everywhere.

const (
	loopSteps     = 10 // a turn of a loop, besides what it does: a scope is made for it
	keySteps      = 16 // of one that makes a map or an object, besides
	callSteps     = 6  // a function call
	opSteps       = 8  // an operator
	divideSteps   = 14 // and one that divides, to 512 bits
	branchSteps   = 6  // each branch of a conditional
	equalSteps    = 4  // a value that is compared, besides being looked at
	argumentSteps = 3  // an argument is looked at so often: its marks are taken away, it is converted, and copied
	instanceSteps = 70 // an instance of a block
	nestedSteps   = 40 // a block nested in it
	convertSteps  = 30 // an element that becomes another type
	elementSteps  = 10 // an element of one of its lists

	jsonSteps    = 36 // a value that jsondecode reads
	cellSteps    = 4  // a cell that csvdecode reads
	rowSteps     = 8  // and a row
	wordsPerStep = 4  // of a template that is rendered
	yamlSteps    = 4  // a word that yamldecode reads, and a value that it makes

	pairsPerStep = 8  // pairs of types, compared to find one for all
	bytesPerStep = 32 // bytes of text, looked at
)

// What looking at a value costs, for each that is in it.
const (
	listElement = 2
	mapElement  = 3
	attribute   = 3
	setElement  = 60 // sets are sorted each time
)

// cost is what a function costs besides its call and its arguments.
type cost struct {
	call  int64 // steps
	node  int64 // for each value in an argument, at all levels
	bytes int64 // of text for a step; 0: as many as it takes to look at it
}

// costs is read only. What is not in it is as cheap as its arguments.
var costs = map[string]cost{
	"format": {call: 30, node: 30}, "formatlist": {call: 10, node: 30},
	"jsonencode": {call: 80, node: 40},
	"jsondecode": {call: 50}, "csvdecode": {call: 100}, "yamldecode": {call: 150},
	"join": {node: 12}, "merge": {call: 12, node: 6}, "flatten": {call: 10, node: 20},
	"contains": {node: 4}, "compact": {node: 4}, "chunklist": {node: 4}, "zipmap": {node: 6}, "sort": {node: 24},
	"setproduct": {node: 10}, "toset": {node: 60}, "setunion": {node: 60}, "setintersection": {node: 60}, "setsubtract": {node: 60},
	"regex": {call: 60}, "regexall": {call: 60}, "replace": {bytes: 16},
	"base64encode": {bytes: 16}, "base64decode": {bytes: 16}, "sha256": {bytes: 16},
	"strlen": {bytes: 2}, "length": {bytes: 2}, "substr": {bytes: 2}, "strrev": {bytes: 2}, "title": {bytes: 8},
	"upper": {bytes: 8}, "lower": {bytes: 8}, "trim": {bytes: 8}, "cidrhost": {call: 5}, "cidrsubnet": {call: 5}, "cidrnetmask": {call: 5}, "pow": {call: 10}, "log": {call: 5}, "parseint": {call: 20}, "tonumber": {call: 20},
}

// of gives what a function costs for an argument.
func (c cost) of(w weight) int64 {
	bytes := c.bytes
	if bytes == 0 {
		bytes = bytesPerStep
	}
	return argumentSteps*w.work + c.node*w.nodes + w.text/bytes
}

// charge takes steps for what is not an expression. When there are none left it
// reports that, and nothing more is evaluated.
func (l *loader) charge(steps int64, at hcl.Range) {
	if l.stopped || l.meter.afford(steps, 0) == nil {
		return
	}
	l.stopped = true
	l.report(l.meter.tooMuch(at))
}

// words counts what a text is made of, roughly: words, and everything else that is not
// a blank. It is never much less than what a lexer would find.
func words(text string) int {
	n, inside := 0, false
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80:
			if !inside {
				n++
			}
			inside = true
		case c == ' ' || c == '\t' || c == '\r':
			inside = false
		default:
			n++
			inside = false
		}
	}
	return n
}

// blockWords is what a brace that opens something counts in tokens: there may be a block
// behind it, and those take memory.
const blockWords = 5

// countTokens is words for what the lexer found.
func countTokens(tokens hclsyntax.Tokens) int {
	n := len(tokens)
	for _, t := range tokens {
		if t.Type == hclsyntax.TokenOBrace {
			n += blockWords - 1
		}
	}
	return n
}

// affordWords charges for a file with so many words.
func (l *loader) affordWords(name string, n int) *hcl.Diagnostic {
	l.words += n
	at := hcl.Range{Filename: name, Start: firstByte, End: firstByte}
	if l.words > maxWords {
		return mistake(at, "The configuration is too large", fmt.Sprintf("All files together may have %d words and signs. Put data into a table, and read it with csvdecode.", maxWords))
	}
	if l.meter.afford(int64(n), 0) != nil {
		return l.meter.tooMuch(at)
	}
	return nil
}

// setSteps charges for walking through a set.
func (m *meter) setSteps(v cty.Value, at hcl.Range) {
	raw, _ := v.Unmark()
	if raw.Type().IsSetType() && raw.IsKnown() && !raw.IsNull() {
		m.spend(setElement*int64(raw.LengthInt()), 0, at)
	}
}
