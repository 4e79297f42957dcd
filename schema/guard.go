package schema

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The HCL parser and evaluator recurse along nesting and along chains of
// operators, and a goroutine that runs out of stack takes the process with it. The
// lexer does not recurse, so what it finds is measured before anything is parsed.

// checkTokens refuses source that is nested too deep, has an expression with too
// many operators, or a number that would take forever to print.
func checkTokens(tokens hclsyntax.Tokens) *hcl.Diagnostic {
	type level struct {
		operators int
		kind      hclsyntax.TokenType
		items     bool // a line end begins something new
	}
	stack := []level{{kind: hclsyntax.TokenEOF, items: true}}
	total := 0 // operators at all open levels: how deep the expression may be
	for i, tok := range tokens {
		top := &stack[len(stack)-1]
		switch tok.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			top.operators++
			total++
			if len(stack) > maxDepth {
				return mistake(tok.Range, "Nested too deep", fmt.Sprintf("Brackets, blocks and templates may be nested %d deep.", maxDepth))
			}
			stack = append(stack, level{kind: tok.Type, items: tok.Type == hclsyntax.TokenOBrace && !isFor(tokens[i+1:])})
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			if len(stack) > 1 {
				total -= top.operators
				stack = stack[:len(stack)-1]
			}
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			if top.items && bytes.HasSuffix(tok.Bytes, []byte("\n")) {
				total -= top.operators
				top.operators = 0
			}
		case hclsyntax.TokenComma:
			total -= top.operators
			top.operators = 0
		case hclsyntax.TokenNumberLit:
			if d := checkNumber(tok); d != nil {
				return d
			}
		case hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPlus, hclsyntax.TokenMinus, hclsyntax.TokenPercent,
			hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq,
			hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq, hclsyntax.TokenAnd, hclsyntax.TokenOr,
			hclsyntax.TokenBang, hclsyntax.TokenDot, hclsyntax.TokenQuestion, hclsyntax.TokenColon, hclsyntax.TokenDoubleColon:
			top.operators++
			total++
		}
		if total > maxOperators {
			return mistake(tok.Range, "Expression too long", fmt.Sprintf("One expression may have %d operators. Put parts of it into locals.", maxOperators))
		}
	}
	return nil
}

// isFor reports whether the first word is "for": the parser ignores line ends in
// such braces.
func isFor(rest hclsyntax.Tokens) bool {
	for _, tok := range rest {
		switch tok.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
		default:
			return tok.Type == hclsyntax.TokenIdent && string(tok.Bytes) == "for"
		}
	}
	return false
}

func checkNumber(tok hclsyntax.Token) *hcl.Diagnostic {
	ok := len(tok.Bytes) <= maxNumber
	if i := bytes.IndexAny(tok.Bytes, "eE"); ok && i >= 0 {
		n, err := strconv.Atoi(string(bytes.TrimPrefix(tok.Bytes[i+1:], []byte("+"))))
		ok = err == nil && abs(n) <= 308
	}
	if !ok {
		return mistake(tok.Range, "Number out of range", fmt.Sprintf("A number has at most %d characters, and an exponent of at most 308.", maxNumber))
	}
	return nil
}

// checkJSON refuses JSON that is nested too deep or has numbers that take long to
// read. It looks at nothing else, the parser does the rest.
func checkJSON(src []byte, file string) *hcl.Diagnostic {
	depth, line, start, digits := 0, 1, 0, 0
	inString := false
	for i := 0; i < len(src); i++ {
		c := src[i]
		if inString || c < '0' || c > '9' {
			digits = 0
		} else if digits++; digits > maxNumber {
			pos := hcl.Pos{Line: line, Column: i - start + 1, Byte: i}
			return mistake(hcl.Range{Filename: file, Start: pos, End: pos}, "Number out of range", fmt.Sprintf("A number has at most %d digits.", maxNumber))
		}
		switch {
		case c == '\n':
			line, start = line+1, i+1
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				pos := hcl.Pos{Line: line, Column: i - start + 1, Byte: i}
				return mistake(hcl.Range{Filename: file, Start: pos, End: pos}, "Nested too deep", fmt.Sprintf("JSON may be nested %d deep.", maxDepth))
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
