package schema

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxFolders bounds the folders that Folders follows modules into.
const maxFolders = 1000

// Folders lists, sorted, the folders of a tree whose files are configuration: ".",
// "env" when it is there, and those that the module blocks of listed folders name as
// their source. Files of other folders may end in .hcl too, and be data: what
// expressions read, or what goes into an image.
//
// It looks at syntax only, and passes over what is wrong: Load tells of that.
func Folders(files fs.FS) []string {
	l := newLoader(files, Options{})
	found := []string{"."}
	for i := 0; i < len(found) && len(found) < maxFolders; i++ {
		for _, dir := range l.moduleFolders(found[i]) {
			if !slices.Contains(found, dir) {
				found = append(found, dir)
			}
		}
	}
	if st, err := fs.Lstat(files, "env"); err == nil && st.IsDir() && !slices.Contains(found, "env") {
		found = append(found, "env")
	}
	slices.Sort(found)
	return found
}

// ConfigFile reports whether the name is one of a file of configuration, in either
// form.
func ConfigFile(name string) bool {
	base := path.Base(name)
	return !strings.HasPrefix(base, ".") && (strings.HasSuffix(base, ".hcl") || strings.HasSuffix(base, ".hcl.json"))
}

// moduleFolders gives the folders that the files of dir name as modules.
func (l *loader) moduleFolders(dir string) []string {
	entries, err := fs.ReadDir(l.tree.fsys, dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if !e.Type().IsRegular() || !ConfigFile(e.Name()) {
			continue
		}
		name := path.Join(dir, e.Name())
		text, err := l.tree.text(name, maxConfigBytes)
		if err != nil {
			continue
		}
		body, _ := parseFile([]byte(text), name)
		if body == nil {
			continue
		}
		for _, b := range body.Blocks {
			if b.Type != "module" || b.Body.Attributes["source"] == nil {
				continue
			}
			source, ok := literal(b.Body.Attributes["source"].Expr)
			if to := path.Join(dir, source); ok && !path.IsAbs(source) && l.folder(to) {
				out = append(out, to)
			}
		}
	}
	return out
}

// literal gives text that is written as it is. Nothing is evaluated.
func literal(e hclsyntax.Expression) (string, bool) {
	v := cty.NilVal
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		v = e.Val
	case *hclsyntax.TemplateExpr:
		if len(e.Parts) == 1 {
			return literal(e.Parts[0])
		}
	}
	if v == cty.NilVal || v.IsNull() || v.Type() != cty.String {
		return "", false
	}
	return v.AsString(), true
}

// folder reports whether name is a folder of the tree, without symbolic links on the
// way to it.
func (l *loader) folder(name string) bool {
	if !fs.ValidPath(name) {
		return false
	}
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if st, err := fs.Lstat(l.tree.fsys, name[:i]); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}
