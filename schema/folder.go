package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
)

// folder gives the digest of a folder, as Directory.Digest has it, and the size of
// its files together. One that is not in the tree is looked up in the recorded
// digests.
func (t *tree) folder(name string) (File, error) {
	key := name + "/" // what a file is never called
	t.note(key)
	if f := t.files[key]; f != nil {
		return *f, nil
	}
	if err := t.locate(name, fs.FileMode.IsDir, "folder"); err != nil {
		if rec, ok := t.recorded[key]; ok && fs.ValidPath(name) && validDigest(rec.Digest) {
			rec = File{Path: key, Digest: rec.Digest, Size: rec.Size}
			return rec, t.remember(rec)
		}
		return File{}, err
	}
	w := folderWalk{tree: t, root: name, sum: sha256.New()}
	if err := w.walk(".", 0); err != nil {
		return File{}, err
	}
	if w.found == 0 {
		return File{}, &fileError{fmt.Sprintf("%q holds no files", name), "A root is made of what is in the folder, and there is nothing."}
	}
	f := File{Path: key, Digest: digestString(w.sum.Sum(nil)), Size: w.size}
	return f, t.remember(f)
}

// folderWalk hashes what is in a folder, in the order of its names.
type folderWalk struct {
	tree  *tree
	root  string
	sum   hash.Hash
	found int   // files and links
	size  int64 // bytes of files
}

func (w *folderWalk) walk(dir string, depth int) error {
	if depth > maxFolderDepth {
		return &fileError{fmt.Sprintf("%q is too deep", w.root), fmt.Sprintf("At most %d folders may lie in each other.", maxFolderDepth)}
	}
	entries, err := fs.ReadDir(w.tree.fsys, path.Join(w.root, dir))
	if err != nil {
		return w.unreadable(dir, err)
	}
	if w.tree.walked += len(entries); w.tree.walked > maxFolderFiles {
		return &fileError{"The images use too many files", fmt.Sprintf("All folders that images are made of may have %d files and folders together. Pack them into an archive, and write tar { path = … }.", maxFolderFiles)}
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch mode := e.Type(); {
		case mode.IsDir():
			err = w.walk(name, depth+1)
		case mode&fs.ModeSymlink != 0:
			err = w.link(name)
		case mode.IsRegular():
			err = w.file(name, e)
		default:
			err = &fileError{fmt.Sprintf("%q is neither a file nor a folder", path.Join(w.root, name)), "A folder that an image is made of holds files, folders and symbolic links. What else a root needs, such as devices, its system makes when it starts."}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Each file and link is one record: what it is, its path with a NUL behind it, and
// the digest of its bytes or of where it leads.

func (w *folderWalk) link(name string) error {
	to, err := fs.ReadLink(w.tree.fsys, path.Join(w.root, name))
	if err != nil {
		return w.unreadable(name, err)
	}
	sum := sha256.Sum256([]byte(to))
	w.note("l", name, sum[:])
	return nil
}

func (w *folderWalk) file(name string, e fs.DirEntry) error {
	st, err := e.Info()
	if err != nil {
		return w.unreadable(name, err)
	}
	f, err := w.tree.fsys.Open(path.Join(w.root, name))
	if err != nil {
		return w.unreadable(name, err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxHashBytes-w.tree.hashed+1))
	if err != nil {
		return w.unreadable(name, err)
	}
	if w.tree.hashed += n; w.tree.hashed > maxHashBytes {
		return tooMuchToHash()
	}
	w.size += n
	kind := "f"
	if st.Mode()&0o100 != 0 { // all that Git keeps of permissions
		kind = "x"
	}
	w.note(kind, name, h.Sum(nil))
	return nil
}

func (w *folderWalk) note(kind, name string, sum []byte) {
	w.found++
	fmt.Fprintf(w.sum, "%s %s\x00%s\n", kind, name, hex.EncodeToString(sum))
}

func (w *folderWalk) unreadable(name string, err error) error {
	return &fileError{fmt.Sprintf("Cannot read %q", path.Join(w.root, name)), cause(err)}
}
