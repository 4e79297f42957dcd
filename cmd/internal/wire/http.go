package wire

import (
	"bufio"
	"bytes"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// maxHead bounds the head of a request or response, and a line of a chunked body.
const maxHead = 64 << 10

// httpConn follows the HTTP/1 exchanges of one connection (RFC 9112).
type httpConn struct {
	conn    *conn
	sides   [2]httpSide
	waiting []*HTTP // requests whose response has not begun, in order
}

// httpSide is one direction: requests, or responses.
type httpSide struct {
	head  []byte // of the message that is being read, as far as it came
	began time.Time
	body  *body // nil while the head is being read
	entry *HTTP // of the response whose body is being read
	sum   hash.Hash
	dead  bool // cannot be followed any more
}

func newHTTPConn(c *conn) *httpConn { return &httpConn{conn: c} }

func (h *httpConn) data(dir direction, at time.Time, b []byte) {
	s := &h.sides[dir]
	for len(b) > 0 && !s.dead {
		if s.body == nil {
			b = h.readHead(dir, at, b)
			continue
		}
		part, rest, state := s.body.take(b)
		b = rest
		if dir == toClient {
			s.add(part)
		}
		switch state {
		case bodyEnd:
			h.endBody(dir, at, true)
		case bodyBroken:
			h.broken(dir, at)
		}
	}
}

// readHead adds to the head until it is whole, and gives the bytes behind it.
func (h *httpConn) readHead(dir direction, at time.Time, b []byte) (rest []byte) {
	s := &h.sides[dir]
	if len(s.head) == 0 {
		// RFC 9112 section 2.2: empty lines before a request are to be ignored.
		if b = bytes.TrimLeft(b, "\r\n"); len(b) == 0 {
			return nil
		}
		s.began = at
	}
	before := len(s.head)
	s.head = append(s.head, b...)
	end := headEnd(s.head, max(0, before-3))
	if end < 0 {
		if len(s.head) > maxHead {
			h.broken(dir, at)
		}
		return nil
	}
	rest = b[end-before:]
	head := s.head[:end]
	s.head = s.head[:0]
	ok := end <= maxHead
	if ok && dir == toServer {
		ok = h.request(head)
	} else if ok {
		ok = h.response(head, at)
	}
	if !ok {
		h.broken(dir, at)
	}
	return rest
}

// headEnd gives the length of the head with its empty line, -1 when it is not whole.
// Some clients end lines with a bare LF.
func headEnd(b []byte, from int) int {
	for i := from; i < len(b); i++ {
		if b[i] != '\n' {
			continue
		}
		if i > 0 && b[i-1] == '\n' || i > 1 && b[i-1] == '\r' && b[i-2] == '\n' {
			return i + 1
		}
	}
	return -1
}

// request takes a whole head of a request.
func (h *httpConn) request(head []byte) bool {
	s := &h.sides[toServer]
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return false
	}
	e := &HTTP{
		At: s.began, End: s.began, MAC: h.conn.mac, Client: h.conn.client, Server: h.conn.server,
		Method: r.Method, Target: r.RequestURI, Request: r.Header, Length: -1,
	}
	if r.Host != "" {
		e.Request.Set("Host", r.Host) // which ReadRequest moves out of the header
	}
	t := h.conn.table.traffic
	t.HTTP = append(t.HTTP, e)
	h.waiting = append(h.waiting, e)
	switch {
	case slices.Contains(r.TransferEncoding, "chunked"):
		s.body = newBody(bodyChunked, 0)
	case r.ContentLength > 0:
		s.body = newBody(bodyLength, r.ContentLength)
	}
	return true
}

// response takes a whole head of a response.
func (h *httpConn) response(head []byte, at time.Time) bool {
	s := &h.sides[toClient]
	var e *HTTP
	if len(h.waiting) > 0 {
		e = h.waiting[0]
	} else {
		e = &HTTP{At: at, MAC: h.conn.mac, Client: h.conn.client, Server: h.conn.server}
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: e.Method})
	if err != nil {
		return false
	}
	if r.StatusCode < 200 && r.StatusCode != http.StatusSwitchingProtocols {
		return true // the final one follows
	}
	if len(h.waiting) > 0 {
		h.waiting = h.waiting[1:]
	} else {
		t := h.conn.table.traffic
		t.HTTP = append(t.HTTP, e)
	}
	e.Status, e.Response, e.Length, e.End = r.StatusCode, r.Header, -1, at
	// Not r.ContentLength, which is what a body of this status would have.
	if n, err := strconv.ParseInt(r.Header.Get("Content-Length"), 10, 64); err == nil {
		e.Length = n
	}
	s.entry, s.sum = e, newDigest()
	e.Body = []byte{}
	switch {
	case e.Method == http.MethodHead, r.StatusCode < 200, r.StatusCode == http.StatusNoContent, r.StatusCode == http.StatusNotModified:
		h.endBody(toClient, at, true)
	case slices.Contains(r.TransferEncoding, "chunked"):
		s.body = newBody(bodyChunked, 0)
	case r.ContentLength == 0:
		h.endBody(toClient, at, true)
	case r.ContentLength > 0:
		s.body = newBody(bodyLength, r.ContentLength)
	default:
		s.body = newBody(bodyToClose, 0)
	}
	if r.StatusCode == http.StatusSwitchingProtocols || e.Method == http.MethodConnect {
		h.sides[toServer].dead, s.dead = true, true
	}
	return true
}

// add takes a part of a response's body.
func (s *httpSide) add(part []byte) {
	if len(part) == 0 {
		return
	}
	e := s.entry
	s.sum.Write(part)
	e.Bytes += int64(len(part))
	if e.Body != nil && e.Bytes <= MaxBody {
		e.Body = append(e.Body, part...)
	} else {
		e.Body = nil
	}
}

// endBody ends the message of a direction; the next one's head follows.
func (h *httpConn) endBody(dir direction, at time.Time, complete bool) {
	s := &h.sides[dir]
	s.body = nil
	if e := s.entry; e != nil {
		e.Complete, e.Digest, e.End = complete, digest(s.sum), at
		s.entry, s.sum = nil, nil
	}
}

// broken gives up a direction that breaks the protocol.
func (h *httpConn) broken(dir direction, at time.Time) {
	h.conn.table.traffic.Malformed++
	h.endBody(dir, at, false)
	h.sides[dir].dead, h.sides[dir].head = true, nil
}

func (h *httpConn) closed(dir direction, at time.Time, orderly bool) {
	s := &h.sides[dir]
	if s.dead {
		return
	}
	complete := orderly && s.body != nil && s.body.kind == bodyToClose
	h.endBody(dir, at, complete)
	s.dead, s.head = true, nil
}
