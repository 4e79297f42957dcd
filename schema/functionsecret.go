package schema

import (
	"fmt"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Bounds of an encrypted file and of what is in it, in bytes, and what opening one
// costs in steps: a reader tries every recipient of it.
const (
	maxSealedBytes = 512 << 10
	maxSecretBytes = 256 << 10
	secretSteps    = 1000
)

// secretFunc gives the text of an encrypted file of the tree, as a sensitive value. What
// is recorded of the file is what it is in the tree.
func (l *loader) secretFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{text("path")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := l.secret(args[0].AsString())
			if err != nil {
				return cty.NilVal, err
			}
			if err := l.meter.afford(1, int64(len(s))); err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(s).Mark(sensitive), nil
		},
	})
}

func (l *loader) secret(given string) (string, error) {
	name := l.path(given)
	sealed, err := l.tree.text(name, maxSealedBytes)
	if err != nil {
		return "", l.ofFile(err)
	}
	if s, ok := l.secrets[name]; ok {
		return s, nil
	}
	if err := l.meter.afford(secretSteps+int64(len(sealed))/64, 0); err != nil {
		return "", err
	}
	s := "encrypted:" + l.tree.files[name].Digest
	if l.opts.Open != nil {
		b, err := l.opts.Open([]byte(sealed))
		switch {
		case err != nil:
			return "", &fileError{fmt.Sprintf("Cannot decrypt %q", given), sentence(err.Error())}
		case len(b) > maxSecretBytes:
			return "", &fileError{fmt.Sprintf("%q holds too much", given), fmt.Sprintf("A secret may have %s.", formatSize(maxSecretBytes))}
		case !utf8.Valid(b):
			return "", &fileError{fmt.Sprintf("%q does not hold UTF-8 text", given), "Only text can be used in expressions. Encrypt it in base64, and give it to base64decode where bytes are meant."}
		}
		s = string(b)
	}
	l.secrets[name] = s
	return s, nil
}
