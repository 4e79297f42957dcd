package bootloader

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// root is the folder that all boot trees are served below.
const root = "b/"

const scriptName = "boot.ipxe"

// idLength is how much of a tree's digest names it. BOOTP's `file` field holds 127
// bytes.
const idLength = 26

// file is one file of a tree: text in memory, or a blob.
type file struct {
	name   string // relative to the tree
	role   provider.AnswerKind
	digest string
	size   int64
	text   string // "" for a blob
}

func textFile(name string, role provider.AnswerKind, text string) file {
	sum := sha256.Sum256([]byte(text))
	return file{name: name, role: role, digest: "sha256:" + hex.EncodeToString(sum[:]), size: int64(len(text)), text: text}
}

func blobFile(name string, role provider.AnswerKind, b provider.Blob) file {
	return file{name: name, role: role, digest: b.Digest, size: b.Size}
}

// tree is the set of files that some machines are offered. It is never changed,
// and shared by all generations that have it.
type tree struct {
	id    string
	files []file // sorted by name
}

// newTree sorts the files and names the tree.
func newTree(files []file) *tree {
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s %s %d\n", f.name, f.digest, f.size)
	}
	id := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil))
	return &tree{id: strings.ToLower(id[:idLength]), files: files}
}

// path is where clients find a file of the tree, without leading slash.
func (t *tree) path(name string) string { return root + t.id + "/" + name }

// file gives the file of that name, or nil.
func (t *tree) file(name string) *file {
	i, ok := slices.BinarySearchFunc(t.files, name, func(f file, name string) int { return strings.Compare(f.name, name) })
	if !ok {
		return nil
	}
	return &t.files[i]
}

// split takes a path apart into the id of a tree and the name of a file in it.
func split(path string) (id, name string, ok bool) {
	rest, ok := strings.CutPrefix(path, root)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}
