package httpboot

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strconv"
	"time"
)

var errCutShort = errors.New("the client closed the connection")

// deliver sends the file, or the ranges of it that were asked for, and notes in tr
// what became of it.
func deliver(w http.ResponseWriter, r *http.Request, f File, tr *Transfer) {
	w.Header().Set("Content-Type", contentType(tr.Name))
	w.Header().Set("Etag", strconv.Quote(f.Digest()))
	var src io.ReadSeeker = io.NewSectionReader(f, 0, f.Size())
	if of := f.OSFile(); of != nil {
		// sendfile reads at the offset of an open file. This one is shared, so the
		// transfer gets one of its own, which works for a file without a name too.
		own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", of.Fd()))
		if err == nil {
			defer own.Close()
			src = own
		}
	}
	rec := &recorder{ResponseWriter: w}
	http.ServeContent(rec, r, "", time.Time{}, src)
	tr.Status, tr.Bytes = rec.status, rec.bytes
	want, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	if r.Method != http.MethodGet || err != nil {
		return
	}
	switch {
	case rec.status != http.StatusOK && rec.status != http.StatusPartialContent:
	case rec.bytes < want && rec.err != nil:
		tr.Err = fmt.Errorf("%d of %d bytes sent: %w", rec.bytes, want, rec.err)
	case rec.bytes < want:
		tr.Err = fmt.Errorf("%d of %d bytes sent: %w", rec.bytes, want, errCutShort)
	default:
		tr.Whole = rec.status == http.StatusOK || w.Header().Get("Content-Range") == fmt.Sprintf("bytes 0-%d/%d", tr.Size-1, tr.Size)
	}
}

// contentType says what a file is. UEFI takes an image for one by this type or by
// its suffix (UEFI 2.10 section 24.7).
func contentType(name string) string {
	switch path.Ext(name) {
	case ".efi":
		return "application/efi"
	case ".ipxe", ".cfg":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// recorder counts what is sent.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	err    error
}

func (r *recorder) WriteHeader(code int) {
	r.status = code
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.ResponseWriter.Write(p)
	r.note(int64(n), err)
	return n, err
}

// ReadFrom lets net/http use sendfile.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(r.ResponseWriter, src)
	r.note(n, err)
	return n, err
}

func (r *recorder) note(n int64, err error) {
	r.bytes += n
	if r.err == nil {
		r.err = err
	}
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
