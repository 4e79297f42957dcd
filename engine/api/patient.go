package api

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"time"
)

// patience is how long a client may take. The zero value is that of servers.
type patience struct {
	// header is for saying what it wants; over TCP, for the TLS handshake before that
	// too.
	header time.Duration
	// body is for its request's body; a long one may take a second more for each
	// bodyRate bytes.
	body time.Duration
	// write is how long it may read nothing while there is something for it. Who looks
	// at a long answer page by page reads on at last.
	write time.Duration
}

const bodyRate = 64 << 10

func (p patience) orDefault() patience {
	return patience{cmp.Or(p.header, 10*time.Second), cmp.Or(p.body, 30*time.Second), cmp.Or(p.write, 2*time.Minute)}
}

// patient bounds how long a client on the network may keep a request waiting. An
// answer may take as long as the work does, and events go on for ever.
func (p patience) patient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		if r.ContentLength != 0 {
			limit := p.body + time.Duration(min(max(r.ContentLength, 0), maxApply)/bodyRate)*time.Second
			// It fails for a connection that is gone.
			_ = c.SetReadDeadline(time.Now().Add(limit))
			r.Body = &timedBody{r.Body, c}
		}
		t := &timedWriter{w, c, p.write}
		t.extend()
		next.ServeHTTP(t, r)
	})
}

// timedBody lifts the deadline at its end: from then on the connection is only read to
// see whether the client is still there.
type timedBody struct {
	io.ReadCloser
	c *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.c.SetReadDeadline(time.Time{})
	}
	return n, err
}

// timedWriter gives each write the same time.
type timedWriter struct {
	http.ResponseWriter
	c     *http.ResponseController
	limit time.Duration
}

func (t *timedWriter) extend() { _ = t.c.SetWriteDeadline(time.Now().Add(t.limit)) }

func (t *timedWriter) WriteHeader(code int) {
	t.extend()
	t.ResponseWriter.WriteHeader(code)
}

func (t *timedWriter) Write(p []byte) (int, error) {
	t.extend()
	return t.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController.
func (t *timedWriter) FlushError() error {
	t.extend()
	return t.c.Flush()
}

func (t *timedWriter) Flush() { _ = t.FlushError() }

// Unwrap is for http.ResponseController.
func (t *timedWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }
