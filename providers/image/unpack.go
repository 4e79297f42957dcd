package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"
)

// maxUnpacked bounds the files of an image whose file system does not bound them
// by its size.
const maxUnpacked = 64 << 30

// unpack fills the tree from the image's source.
func (b *build) unpack(ctx context.Context, base io.Reader, size int64) (contents, error) {
	counted := &counting{r: base, tell: func(n int64) {
		b.report(step{name: "unpack", text: "unpacking", done: n, total: size})
	}}
	counted.tell(0)
	limit := int64(maxUnpacked)
	// What is compressed may take less than it is.
	sized := b.img.Filesystem.Type == "ext4" || b.img.Filesystem.Type == "btrfs" && b.img.Filesystem.Compress == ""
	if sized {
		limit = b.img.Filesystem.Size
	}
	x := &extractor{tree: b.tree, limit: limit}
	got, err := x.extract(ctx, counted)
	var r *refused
	var big *tooBig
	switch {
	case errors.As(err, &big) && sized:
		return contents{}, &mistake{attr: "filesystem.size", summary: "File system too small",
			detail: fmt.Sprintf("the files alone take more than the %s of the file system; raise its size", mib(limit))}
	case errors.As(err, &big), errors.As(err, &r):
		return contents{}, &mistake{attr: "tar.path", summary: "Archive refused", detail: err.Error()}
	}
	return got, err
}

// counting tells how many bytes were read, now and then.
type counting struct {
	r    io.Reader
	n    int64
	last int64
	tell func(int64)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n-c.last >= 16<<20 || err == io.EOF {
		c.last = c.n
		c.tell(c.n)
	}
	return n, err
}

// fromTar unpacks a tar archive of the repository: plain, gzip, zstd or xz. The
// bytes must be those that the recipe was made from.
func (b *build) fromTar(ctx context.Context, files fs.FS) (contents, error) {
	t := b.img.Tar
	f, err := files.Open(t.Path)
	if err != nil {
		return contents{}, &mistake{attr: "tar.path", summary: "Archive cannot be read", detail: err.Error()}
	}
	defer f.Close()
	sum := &summing{r: f, h: sha256.New()}
	plain, done, err := decompress(ctx, sum)
	if err != nil {
		return contents{}, err
	}
	got, err := func() (contents, error) {
		defer done() // also when it panics: nobody would read from the program again
		return b.unpack(ctx, plain, 0)
	}()
	if err != nil {
		return contents{}, err
	}
	// What follows the archive counts for the digest too.
	if _, err := io.Copy(io.Discard, sum); err != nil {
		return contents{}, err
	}
	if is := "sha256:" + hex.EncodeToString(sum.h.Sum(nil)); is != t.Digest {
		return contents{}, fmt.Errorf("%s: digest %s, the recipe was made from %s", t.Path, is, t.Digest)
	}
	return got, nil
}

// summing takes the digest of what is read through it.
type summing struct {
	r io.Reader
	h hash.Hash
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.h.Write(p[:n])
	return n, err
}

// decompress gives the plain bytes of r, by its first few. done is called when
// they are read, and frees what the decompression took.
func decompress(ctx context.Context, r io.Reader) (plain io.Reader, done func(), err error) {
	br := bufio.NewReaderSize(r, 1<<20)
	magic, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, refuse("it is a broken gzip file: %v", err)
		}
		return refusing{z, "gzip"}, func() {}, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// 128 MiB is the largest window that zstd itself takes unasked.
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxMemory(1<<30), zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		return refusing{z, "zstd"}, z.Close, nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		plain, done := external(ctx, br, "xz", "--decompress", "--stdout", "--memlimit-decompress=1GiB")
		return plain, done, nil
	}
	return br, func() {}, nil
}

// refusing makes refusals of what a decompressor finds wrong with its input.
type refusing struct {
	r      io.Reader
	format string
}

func (r refusing) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	var file *fs.PathError
	if err != nil && err != io.EOF && !errors.As(err, &file) {
		err = refuse("it is a broken %s file: %v", r.format, err)
	}
	return n, err
}

// external pipes r through a program. done is called before anybody else reads r.
func external(ctx context.Context, r io.Reader, argv ...string) (plain io.Reader, done func()) {
	return pipe(ctx, func(ctx context.Context, out io.Writer) error {
		err := command{argv: argv, env: plainEnv(), stdin: r, stdout: out}.run(ctx)
		var f *failure
		if errors.As(err, &f) {
			err = refuse("it is a broken %s file: %v", argv[0], f)
		}
		return err
	})
}

// pipe gives what work writes as a reader. done stops the work, which a reader
// that needs no more has no use for, and waits for its end.
func pipe(ctx context.Context, work func(context.Context, io.Writer) error) (r io.Reader, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	ended := make(chan struct{})
	go func() { // ends with the work, which done waits for
		defer close(ended)
		_, err := contained(func() (struct{}, error) { return struct{}{}, work(ctx, pw) })
		pw.CloseWithError(err)
	}()
	return pr, func() {
		cancel()
		pr.Close()
		<-ended
	}
}
