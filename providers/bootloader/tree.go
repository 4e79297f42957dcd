package bootloader

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// root is the folder that all boot trees are served below.
const root = "b/"

const (
	scriptName = "boot.ipxe"
	scriptOwn  = scriptName + "-01-" // and the hardware address of a machine, as GRUB has it
)

// idLength is how much of a tree's digest names it. BOOTP's `file` field holds 127
// bytes.
const idLength = 26

// file is one file of a tree: text in memory, bytes that are made when they are asked
// for, or a blob.
type file struct {
	name   string // relative to the tree
	role   provider.AnswerKind
	digest string
	size   int64
	text   string     // "" for a blob
	made   *generated // instead of text; nil for a blob
}

// inMemory reports whether the file's bytes are in no blob.
func (f *file) inMemory() bool { return f.text != "" || f.made != nil }

// bytes gives those of a file in memory.
func (f *file) bytes() string {
	if f.made != nil {
		return f.made.make()
	}
	return f.text
}

// generated makes the bytes of a file when it is asked for. All who have it open share
// one copy.
type generated struct {
	make func() string // gives the same bytes every time

	mu    sync.Mutex // guards below
	open  int
	bytes string // while it is open
}

// hold gives the bytes; release must follow. Who comes while they are made waits.
func (g *generated) hold() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == 0 {
		g.bytes = g.make()
	}
	g.open++
	return g.bytes
}

func (g *generated) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open--; g.open == 0 {
		g.bytes = ""
	}
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
	id     string
	files  []file // sorted by name
	family family // of the bootloader that it was made for
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
