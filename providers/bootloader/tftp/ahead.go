package tftp

import "fmt"

// aheadBytes is how much of a file is read at a time, where a window is smaller.
// A system call to read each block would be added to the one that sends it.
const aheadBytes = 32 << 10

// ahead is a piece of a file, read before it is needed.
type ahead struct {
	file text
	buf  []byte // cap is the most that is asked for
	off  int64  // of buf in the file
}

// newAhead makes one of which at most n bytes are wanted at a time.
func newAhead(f text, n int) ahead {
	return ahead{file: f, buf: make([]byte, 0, min(int64(max(n, aheadBytes)), f.Size()))}
}

// bytes gives n bytes of the file at off, or what there is of them. They are valid
// until the next call.
func (a *ahead) bytes(off, n int64) ([]byte, error) {
	n = min(n, a.file.Size()-off)
	if from := off - a.off; from >= 0 && from+n <= int64(len(a.buf)) {
		return a.buf[from : from+n], nil
	}
	p := a.buf[:min(int64(cap(a.buf)), a.file.Size()-off)]
	a.buf = p[:0]
	if len(p) > 0 {
		if n, err := a.file.ReadAt(p, off); n < len(p) {
			return nil, fmt.Errorf("tftp: read: %w", err)
		}
	}
	a.buf, a.off = p, off
	return p[:n], nil
}
