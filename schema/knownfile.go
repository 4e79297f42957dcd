package schema

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// parsed is a file of configuration: its body, or what is known of it when it need not
// be parsed.
type parsed struct {
	body  *hclsyntax.Body
	known *knownFile // nil when there is a body
}

// knownFile is a file that declares hosts and nothing else, as the Load before read it.
// While its text is the same, it is parsed only if one of its hosts has to be decoded
// again.
type knownFile struct {
	path, digest string
	words        int // see affordWords
	blocks       []knownBlock
}

// knownBlock is what a block without for_each is, without its body.
type knownBlock struct {
	addr      Addr
	at, whole hcl.Range
	ranges    map[string]hcl.Range
	places    map[string]Range
	usage     *usage
}

// knownFile gives what is known of a file; nil when that is nothing.
func (l *loader) knownFile(path string) *knownFile {
	if k := l.kept.before.files[path]; k != nil && l.dir == "" && k.digest == l.tree.files[path].Digest {
		return k
	}
	return nil
}

// simple reports whether a file is one that later Loads can know.
func simple(path string, body *hclsyntax.Body) bool {
	return strings.HasSuffix(path, ".hcl") && len(body.Attributes) == 0 && !slices.ContainsFunc(body.Blocks, func(b *hclsyntax.Block) bool {
		return b.Type != "host" || b.Body.Attributes["for_each"] != nil
	})
}

// declareKnown declares the blocks of a file that was not parsed.
func (l *loader) declareKnown(k *knownFile) {
	for _, known := range k.blocks {
		b := &block{
			addr: known.addr, at: known.at, whole: known.whole, spec: language["host"], values: map[string]*once{},
			ranges: known.ranges, places: known.places, usage: known.usage, unread: k,
		}
		l.declared(b)
	}
}

// read parses the file of a block that is only known, and fills in what its blocks lack.
// It finds no mistake of syntax: there was none in that text.
func (l *loader) read(b *block) {
	k := b.unread
	if k == nil {
		return
	}
	body, diags := parseFile(l.sources[k.path], k.path)
	if l.report(diags...); body == nil {
		return
	}
	for _, blk := range body.Blocks {
		if len(blk.Labels) != 1 {
			continue
		}
		a := Addr{Module: l.module, Kind: blk.Type, Name: blk.Labels[0]}
		if other := l.blocks[a.String()]; other != nil && other.unread == k && other.at == blk.DefRange() {
			other.unread, other.ranges = nil, map[string]hcl.Range{}
			l.checkBlock(other, blk)
			l.compileBlock(other)
		}
	}
}

// keepFiles notes what the next Load may know of files.
func (l *loader) keepFiles() {
	if l.kept.cache == nil {
		return
	}
	files := map[string]*knownFile{}
	for _, b := range l.order {
		path := b.at.Filename
		if !l.kept.simple[path] || b.broken {
			continue
		}
		if files[path] == nil {
			files[path] = &knownFile{path: path, digest: l.tree.files[path].Digest, words: l.kept.words[path]}
		}
		files[path].blocks = append(files[path].blocks, knownBlock{b.addr, b.at, b.whole, b.ranges, b.places, b.usage})
	}
	l.kept.now.files = files
}
