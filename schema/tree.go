package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// tree reads files of the loaded folder, and remembers every one that the desired
// state depends on. Nothing outside the folder can be named: paths are those of
// io/fs, and symbolic links are refused.
type tree struct {
	fsys     fs.FS
	recorded map[string]File // Options.Digests
	files    map[string]*File
	texts    map[string]string // content that was asked for
	folders  map[string]bool   // folders that are no symbolic links
	read     int64
	hashed   int64
	walked   int             // files and folders in folders that were hashed
	noted    map[string]bool // files that were asked for; nil: nobody wants to know
}

func newTree(fsys fs.FS, recorded map[string]File) *tree {
	return &tree{
		fsys: fsys, recorded: recorded,
		files: map[string]*File{}, texts: map[string]string{}, folders: map[string]bool{},
	}
}

// fileError is why a file cannot be used, in the two parts of a diagnostic.
type fileError struct{ summary, detail string }

func (e *fileError) Error() string { return e.summary + "; " + e.detail }

const relativeHint = "Paths are relative to the folder of the configuration, with slashes, and may not leave it."

// moduleHint is relativeHint in a module.
const moduleHint = "Paths in a module are relative to its folder, with slashes, and may not leave it."

// find checks that name is a regular file of the tree.
func (t *tree) find(name string) error { return t.locate(name, fs.FileMode.IsRegular, "file") }

// findFolder checks that name is a folder of the tree.
func (t *tree) findFolder(name string) error { return t.locate(name, fs.FileMode.IsDir, "folder") }

// locate checks that name is something of the tree that has the right mode; what says
// in a word what that is.
func (t *tree) locate(name string, right func(fs.FileMode) bool, what string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") || !utf8.ValidString(name) {
		return &fileError{fmt.Sprintf("Invalid path %q", name), relativeHint}
	}
	for i := 0; i <= len(name); i++ {
		if i < len(name) && (name[i] != '/' || t.folders[name[:i]]) {
			continue
		}
		st, err := fs.Lstat(t.fsys, name[:i])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return t.missing(name, name[:i], what)
		case err != nil:
			return &fileError{fmt.Sprintf("Cannot read %q", name), cause(err)}
		case st.Mode()&fs.ModeSymlink != 0:
			return &fileError{fmt.Sprintf("%q is a symbolic link", name[:i]), "Symbolic links are not followed, so that a commit means the same everywhere. Name the file itself."}
		case st.Mode()&fs.ModeIrregular != 0: // not of these files: the tree knows what it is
			if _, err := fs.ReadDir(t.fsys, name[:i]); err != nil {
				return &fileError{fmt.Sprintf("Cannot read %q", name), cause(err)}
			}
			return t.missing(name, name[:i], what)
		case i < len(name) && !st.IsDir():
			return t.missing(name, name[:i], what)
		case i == len(name) && !right(st.Mode()):
			return &fileError{fmt.Sprintf("%q is not a %s", name, what), notThat[what]}
		}
		if i < len(name) {
			t.folders[name[:i]] = true
		}
	}
	return nil
}

// notThat says what is needed, where something else is.
var notThat = map[string]string{"file": "A regular file is needed here.", "folder": "A folder is needed here."}

// missing explains that part, the beginning of name, is not there.
func (t *tree) missing(name, part, what string) error {
	var there []string
	if entries, err := fs.ReadDir(t.fsys, path.Dir(part)); err == nil {
		for _, e := range entries[:min(len(entries), 1000)] {
			there = append(there, path.Join(path.Dir(part), e.Name()))
		}
	}
	return &fileError{fmt.Sprintf("There is no %s %q", what, name), relativeHint + didYouMean(part, there)}
}

// text gives the content of a file of at most limit bytes.
func (t *tree) text(name string, limit int64) (string, error) {
	t.note(name)
	if s, ok := t.texts[name]; ok {
		if int64(len(s)) > limit {
			return "", tooLarge(name, limit)
		}
		return s, nil
	}
	if err := t.find(name); err != nil {
		return "", err
	}
	f, err := t.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", &fileError{fmt.Sprintf("Cannot read %q", name), cause(err)}
	}
	if int64(len(b)) > limit {
		return "", tooLarge(name, limit)
	}
	if t.read += int64(len(b)); t.read > maxTotalBytes {
		return "", &fileError{"The configuration reads too much", fmt.Sprintf("All files that are read may have %s together.", formatSize(maxTotalBytes))}
	}
	sum := sha256.Sum256(b)
	if err := t.remember(File{Path: name, Digest: digestString(sum[:]), Size: int64(len(b)), Config: true}); err != nil {
		return "", err
	}
	t.texts[name] = string(b)
	return t.texts[name], nil
}

// note remembers that a file was asked for, where somebody wants to know.
func (t *tree) note(name string) {
	if t.noted != nil {
		t.noted[name] = true
	}
}

// digest gives the digest and size of a file whose content does not matter here.
// A file that is not in the tree is looked up in the recorded digests.
func (t *tree) digest(name string) (File, error) {
	t.note(name)
	if f := t.files[name]; f != nil {
		return *f, nil
	}
	if err := t.find(name); err != nil {
		if rec, ok := t.recorded[name]; ok && fs.ValidPath(name) && validDigest(rec.Digest) {
			rec = File{Path: name, Digest: rec.Digest, Size: rec.Size}
			return rec, t.remember(rec)
		}
		return File{}, err
	}
	f, err := t.open(name)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxHashBytes-t.hashed+1))
	if err != nil {
		return File{}, &fileError{fmt.Sprintf("Cannot read %q", name), cause(err)}
	}
	if t.hashed += n; t.hashed > maxHashBytes {
		return File{}, tooMuchToHash()
	}
	got := File{Path: name, Digest: digestString(h.Sum(nil)), Size: n}
	return got, t.remember(got)
}

func (t *tree) open(name string) (fs.File, error) {
	f, err := t.fsys.Open(name)
	if err != nil {
		return nil, &fileError{fmt.Sprintf("Cannot read %q", name), cause(err)}
	}
	return f, nil
}

func (t *tree) remember(f File) error {
	if old := t.files[f.Path]; old != nil {
		old.Config = old.Config || f.Config
		return nil
	}
	if len(t.files) >= maxFiles {
		return &fileError{"The configuration uses too many files", fmt.Sprintf("At most %d files may be used.", maxFiles)}
	}
	t.files[f.Path] = &f
	return nil
}

// used lists, sorted by path, what was read or hashed.
func (t *tree) used() []File {
	out := make([]File, 0, len(t.files))
	for _, f := range t.files {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out
}

func tooMuchToHash() error {
	return &fileError{"The images use too much", fmt.Sprintf("All files that images are made of may have %s together.", formatSize(maxHashBytes))}
}

func tooLarge(name string, limit int64) error {
	return &fileError{fmt.Sprintf("%q is too large", name), fmt.Sprintf("A file that is read here may have %s.", formatSize(limit))}
}

func digestString(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

func validDigest(s string) bool {
	hexa, ok := strings.CutPrefix(s, "sha256:")
	raw, err := hex.DecodeString(hexa)
	return ok && err == nil && len(raw) == sha256.Size && strings.ToLower(hexa) == hexa
}

// cause is why a file operation failed, without the path of the machine that the
// error may name.
func cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return sentence(err.Error())
}

// sentence makes an error text a sentence.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	r, n := utf8.DecodeRuneInString(s)
	s = strings.ToUpper(string(r)) + s[n:]
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "?") {
		s += "."
	}
	return s
}
