package wire

import (
	"bytes"
	"encoding/binary"
	"time"
)

// maxMethod is the length of the longest HTTP method that is recognised.
const maxMethod = 16

// unknown is a connection's application while it is not known which one it is. The
// bytes tell, not the port: an HTTP client speaks first and begins with a method in
// capitals, an NBD server speaks first and begins with its magic number.
type unknown struct {
	conn *conn
	held [2][]byte
}

func (u *unknown) data(dir direction, at time.Time, b []byte) {
	u.held[dir] = append(u.held[dir], b...)
	app, known := u.guess(dir)
	if !known {
		return
	}
	u.conn.app = app
	if app == nil {
		return
	}
	for _, d := range []direction{toServer, toClient} {
		if len(u.held[d]) > 0 {
			app.data(d, at, u.held[d])
		}
	}
}

// guess looks at who spoke first. It never holds back more than a few bytes.
func (u *unknown) guess(dir direction) (app application, known bool) {
	b := u.held[dir]
	if dir == toClient && len(u.held[toServer]) == 0 {
		magic := binary.BigEndian.AppendUint64(nil, nbdMagic)
		if !bytes.HasPrefix(magic, b[:min(len(b), len(magic))]) {
			return nil, true
		}
		if len(b) < len(magic) {
			return nil, false
		}
		return &nbdConn{conn: u.conn}, true
	}
	if dir != toServer {
		return nil, true
	}
	for i, c := range b {
		switch {
		case c == ' ' && i > 0:
			return newHTTPConn(u.conn), true
		case c < 'A' || c > 'Z' || i >= maxMethod:
			return nil, true
		}
	}
	return nil, false
}

func (u *unknown) closed(direction, time.Time, bool) {}
