package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// boltReader reads a file of bbolt's without bbolt, which maps the file and trusts what
// it finds: there a flipped bit is a panic, and a short file a fault. Here every number
// is held against the file before it is used. Pages are read one by one.
//
// The format is that of bbolt 1.x, version 2, in the byte order of this machine:
//
//	page    id u64, flags u16, count u16, overflow u32, then elements and their bytes
//	meta    magic, version, page size, flags u32; root and sequence, freelist, pages,
//	        transaction u64; FNV-1a of all that
//	branch  pos, key size u32, page u64          pos counts from the element
//	leaf    flags, pos, key size, value size u32
//	bucket  root page, sequence u64; with root 0 a leaf page follows
type boltReader struct {
	r        io.ReaderAt
	size     int64
	pageSize int64
	meta     boltMeta
	seen     map[uint64]bool // pages that the tree leads to
	wrong    []error         // at most mostWrong of what was found
	count    int             // how many there were
	take     func(bucket string, key, value []byte)
}

const (
	boltMagic, boltVersion = 0xED0CDAED, 2

	boltBranch, boltLeaf, boltMetaPage, boltFreelist = 0x01, 0x02, 0x04, 0x10

	boltHeader     = 16
	boltElement    = 16
	boltMetaSize   = 64
	boltNoFreelist = ^uint64(0)
	boltMostOver   = 16 << 10 // pages that one may go over; of strays boltStrayOver
	boltStrayOver  = 256
	boltMostStrays = 256 << 20 // bytes from the start that are looked through for strays; a fleet's leases are 10 MiB
	boltMostDepth  = 32
	mostWrong      = 4
)

type boltMeta struct{ root, freelist, pages, tx uint64 }

// element is one of a page: of a leaf or of a branch.
type element struct {
	flags      uint32
	key, value []byte
	page       uint64
}

func (b *boltReader) bad(format string, args ...any) {
	if b.count++; len(b.wrong) < mostWrong {
		b.wrong = append(b.wrong, fmt.Errorf(format, args...))
	}
}

// err says what is wrong with the file; nil: nothing.
func (b *boltReader) err() error {
	if b.count == 0 {
		return nil
	}
	err := errors.Join(b.wrong...)
	if more := b.count - len(b.wrong); more > 0 {
		err = fmt.Errorf("%w\nand %d more", err, more)
	}
	return err
}

// readBolt reads a whole file and calls take with each record of each bucket at the top.
// What it gives says what is wrong; what could be read all the same was taken. Slices
// given to take are not used again.
func readBolt(r io.ReaderAt, size int64, take func(bucket string, key, value []byte)) *boltReader {
	b := &boltReader{r: r, size: size, pageSize: int64(os.Getpagesize()), seen: map[uint64]bool{}, take: take}
	if !b.readMeta() {
		return b
	}
	if int64(b.meta.pages) > size/b.pageSize {
		b.bad("it has %d bytes, and should have %d", size, int64(b.meta.pages)*b.pageSize)
	}
	b.tree(b.meta.root, "", 0, nil, nil, 0)
	b.freelist()
	return b
}

// readMeta takes the younger of the two meta pages that can be believed.
func (b *boltReader) readMeta() bool {
	var metas []boltMeta
	read := func(at int64) bool {
		m, pageSize, err := b.metaAt(at)
		if err != nil || at != 0 && at != pageSize {
			return false
		}
		b.pageSize = pageSize
		metas = append(metas, m)
		return true
	}
	if !read(0) {
		b.bad("its first meta page is damaged")
		for at := int64(1 << 10); at <= 64<<10 && !read(at); at <<= 1 {
		}
	} else if !read(b.pageSize) {
		b.bad("its second meta page is damaged")
	}
	if len(metas) == 0 {
		b.bad("it is no database")
		return false
	}
	for _, m := range metas {
		if m.tx >= b.meta.tx {
			b.meta = m
		}
	}
	return true
}

func (b *boltReader) metaAt(at int64) (boltMeta, int64, error) {
	p := make([]byte, boltHeader+boltMetaSize)
	if _, err := b.r.ReadAt(p, at); err != nil {
		return boltMeta{}, 0, err
	}
	id, flags := binary.NativeEndian.Uint64(p), binary.NativeEndian.Uint16(p[8:])
	p = p[boltHeader:]
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(p[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(p[at:]) }
	sum := fnv.New64a()
	sum.Write(p[:boltMetaSize-8])
	pageSize := int64(u32(8))
	m := boltMeta{root: u64(16), freelist: u64(32), pages: u64(40), tx: u64(48)}
	switch {
	case u32(0) != boltMagic, u32(4) != boltVersion, u64(56) != sum.Sum64(), flags != boltMetaPage,
		id != m.tx%2,
		pageSize < 1<<10 || pageSize > 64<<10 || pageSize&(pageSize-1) != 0,
		m.pages < 3 || m.pages > 1<<40:
		return boltMeta{}, 0, errors.New("no meta page")
	}
	return m, pageSize, nil
}

// page reads a page with all that it goes over.
func (b *boltReader) page(id uint64) ([]byte, error) {
	if id < 2 || id >= b.meta.pages || int64(id) >= b.size/b.pageSize {
		return nil, fmt.Errorf("page %d is beyond its end", id)
	}
	return b.pageAt(id, boltMostOver, true)
}

// pageAt reads a page, and if whole what it goes over, which is at most most pages.
func (b *boltReader) pageAt(id, most uint64, whole bool) ([]byte, error) {
	p := make([]byte, b.pageSize)
	if _, err := b.r.ReadAt(p, int64(id)*b.pageSize); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if got := binary.NativeEndian.Uint64(p); got != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	over := uint64(binary.NativeEndian.Uint32(p[12:]))
	if over == 0 {
		return p, nil
	}
	if over > most || int64(id+over) >= b.size/b.pageSize {
		return nil, fmt.Errorf("page %d goes over %d pages", id, over)
	}
	if !whole {
		return p, nil
	}
	p = make([]byte, b.pageSize*int64(over+1))
	if _, err := b.r.ReadAt(p, int64(id)*b.pageSize); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return p, nil
}

// elements gives those elements of a page that lie within it. The error says what is
// wrong with the page itself; nil: nothing.
func elements(p []byte) (list []element, branch bool, err error) {
	if len(p) < boltHeader {
		return nil, false, errors.New("is too short")
	}
	flags, count := binary.NativeEndian.Uint16(p[8:]), int(binary.NativeEndian.Uint16(p[10:]))
	if flags != boltBranch && flags != boltLeaf {
		return nil, false, fmt.Errorf("is of no known kind: %#x", flags)
	}
	branch = flags == boltBranch
	if branch && count == 0 {
		return nil, branch, errors.New("leads nowhere")
	}
	body := p[boltHeader:]
	var before []byte
	for i := range count {
		at := i * boltElement
		if at+boltElement > len(body) {
			return list, branch, fmt.Errorf("says that it has %d elements", count)
		}
		u32 := func(n int) uint64 { return uint64(binary.NativeEndian.Uint32(body[at+n:])) }
		var e element
		var pos, ksize, vsize uint64
		if branch {
			pos, ksize, e.page = u32(0), u32(4), binary.NativeEndian.Uint64(body[at+8:])
		} else {
			e.flags, pos, ksize, vsize = uint32(u32(0)), u32(4), u32(8), u32(12)
		}
		from := uint64(at) + pos
		switch {
		case pos < boltElement*uint64(count-i), from+ksize+vsize > uint64(len(body)), e.flags > 1, ksize == 0 && !branch:
			err = fmt.Errorf("has a broken element, number %d", i)
			continue
		}
		e.key, e.value = body[from:from+ksize:from+ksize], body[from+ksize:from+ksize+vsize]
		if i > 0 && bytes.Compare(before, e.key) >= 0 {
			err = fmt.Errorf("is not in order at element %d", i)
		}
		before = e.key
		list = append(list, e)
	}
	return list, branch, err
}

// tree walks what a page leads to. The first key is low, all are before high; nil: no
// bound.
func (b *boltReader) tree(id uint64, bucket string, level int, low, high []byte, depth int) {
	if b.seen[id] || depth > boltMostDepth {
		b.bad("page %d is led to twice", id)
		return
	}
	p, err := b.page(id)
	if err != nil {
		b.bad("%v", err)
		return
	}
	for i := range uint64(len(p)) / uint64(b.pageSize) {
		if b.seen[id+i] {
			b.bad("page %d is led to twice", id+i)
		}
		b.seen[id+i] = true
	}
	if id+uint64(len(p))/uint64(b.pageSize) > b.meta.pages {
		b.bad("page %d goes beyond the last page", id)
	}
	list, branch, err := elements(p)
	if err != nil {
		b.bad("page %d %v", id, err)
	}
	for i, e := range list {
		// bbolt finds a page's place by its first key, which is the one that led to it.
		if low != nil && (i == 0) != bytes.Equal(e.key, low) || high != nil && bytes.Compare(e.key, high) >= 0 {
			b.bad("page %d has a key that is not its own", id)
		}
		if !branch {
			b.leaf(e, bucket, level)
			continue
		}
		next := high
		if i+1 < len(list) {
			next = list[i+1].key
		}
		first := e.key
		if len(first) == 0 {
			first = low
		}
		b.tree(e.page, bucket, level, first, next, depth+1)
	}
}

// leaf takes one element of a leaf: a record, or a bucket.
func (b *boltReader) leaf(e element, bucket string, level int) {
	if e.flags == 0 {
		if level == 0 {
			b.bad("there is a record outside of all buckets")
			return
		}
		b.take(bucket, e.key, e.value)
		return
	}
	if level > 0 { // nothing of ours has buckets in buckets
		b.bad("bucket %q has a bucket in it", bucket)
		return
	}
	if len(e.value) < boltElement {
		b.bad("bucket %q is cut off", e.key)
		return
	}
	if root := binary.NativeEndian.Uint64(e.value); root != 0 {
		b.tree(root, string(e.key), 1, nil, nil, 0)
		return
	}
	inline := e.value[boltElement:]
	list, branch, err := elements(inline)
	// It is no page of the file, and says so: bbolt frees the page of this number when the
	// bucket grows.
	if err != nil || branch || binary.NativeEndian.Uint64(inline) != 0 || binary.NativeEndian.Uint32(inline[12:]) != 0 {
		b.bad("bucket %q is damaged", e.key)
	}
	if branch {
		return
	}
	for _, in := range list {
		b.leaf(in, string(e.key), 1)
	}
}

// freelist looks at the list of free pages, if it is written down: a page on it that is
// in use would be written over.
func (b *boltReader) freelist() {
	id := b.meta.freelist
	if id == boltNoFreelist {
		return
	}
	p, err := b.page(id)
	if err != nil {
		b.bad("%v", err)
		return
	}
	count, at := uint64(binary.NativeEndian.Uint16(p[10:])), uint64(boltHeader)
	if count == 0xFFFF {
		count, at = binary.NativeEndian.Uint64(p[at:]), at+8
	}
	if binary.NativeEndian.Uint16(p[8:]) != boltFreelist || b.seen[id] || count > (uint64(len(p))-at)/8 {
		b.bad("page %d is no list of free pages", id)
		return
	}
	before := uint64(1)
	for i := range count {
		free := binary.NativeEndian.Uint64(p[at+8*i:])
		if free <= before || free >= b.meta.pages || b.seen[free] || free == id {
			b.bad("the list of free pages names page %d", free)
		}
		before = free
	}
}

// strayAt reads a page that the tree does not lead to, and takes from left what it goes
// over. That is read only when its own elements reach into it.
func (b *boltReader) strayAt(id uint64, left *int64) ([]byte, error) {
	p, err := b.pageAt(id, boltStrayOver, false)
	if err != nil {
		return nil, err
	}
	flags, count := binary.NativeEndian.Uint16(p[8:]), int64(binary.NativeEndian.Uint16(p[10:]))
	over := int64(binary.NativeEndian.Uint32(p[12:]))
	if flags != boltLeaf || over == 0 {
		return p, nil
	}
	end := boltHeader + boltElement*count
	if count == 0 || end > b.pageSize {
		return p, nil
	}
	last := p[end-boltElement:]
	for _, n := range []int{4, 8, 12} { // where its bytes are, and how many
		end += int64(binary.NativeEndian.Uint32(last[n:]))
	}
	if end -= boltElement; end <= b.pageSize*over || end > b.pageSize*(over+1) || b.pageSize*over > *left {
		return p, nil
	}
	*left -= b.pageSize * over
	return b.pageAt(id, boltStrayOver, true)
}

// strays calls take with each record in a leaf that the tree does not lead to: leaves
// behind a page that is lost, and such as were written over since. The bucket is not
// known. A file may say that it is as long as it likes, so its end is not looked at.
func (b *boltReader) strays(take func(key, value []byte)) {
	most := min(b.size, boltMostStrays)
	left := most // of bytes that may be read beside the first pages
	for id := uint64(2); int64(id) < most/b.pageSize; id++ {
		if b.seen[id] {
			continue
		}
		p, err := b.strayAt(id, &left)
		if err != nil {
			continue
		}
		list, branch, _ := elements(p)
		if branch {
			continue
		}
		for _, e := range list {
			if e.flags == 0 {
				take(e.key, e.value)
				continue
			}
			if len(e.value) < boltElement || binary.NativeEndian.Uint64(e.value) != 0 {
				continue
			}
			inner, branch, _ := elements(e.value[boltElement:])
			for _, in := range inner {
				if !branch && in.flags == 0 {
					take(in.key, in.value)
				}
			}
		}
	}
}
