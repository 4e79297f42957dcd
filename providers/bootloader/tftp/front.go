package tftp

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/pin/tftp/v3"
	"golang.org/x/net/ipv4"
)

// front is the net.PacketConn that pin/tftp reads its requests from. Its ReadFrom
// reads the real socket, deals with everything that is not a transfer in
// netascii on the way, and returns only those. pin/tftp answers each of them from
// a socket of its own, so nothing is ever written here by it.
type front struct {
	srv         *Server
	conn        *net.UDPConn
	local       netip.AddrPort
	anyAddr     bool // bound to 0.0.0.0: control messages carry the real destination
	interrupted func() error
	window      func(*transfer) // starts a transfer of the own sender
	slowly      func(*transfer) // starts one of a file that is not open yet
	lockstep    *tftp.Server

	mu     sync.Mutex           // guards claims
	claims map[string]*transfer // handed to pin/tftp and not yet taken by lockstepRead

	// Used only by the goroutine that calls ReadFrom, which is also the one that
	// pin/tftp reports requests on that it could not start.
	handed string // the claim that ReadFrom returned last
	count  uint64 // of claims
	err    error  // why ReadFrom ended
	buf    [2048]byte
	oob    [64]byte
}

// ReadFrom gives the next request that is for pin/tftp. When the socket cannot be
// read any more it waits for the transfers that pin/tftp has under way, after
// which the library's Serve returns.
func (f *front) ReadFrom(p []byte) (int, net.Addr, error) {
	f.handed = ""
	for {
		n, client, local, err := f.receive()
		if err != nil {
			f.err = err
			// The library would call ReadFrom again at once, for ever, until told.
			// This is its own serving goroutine: nothing is being handed over.
			f.lockstep.Shutdown()
			return 0, nil, err
		}
		t := f.take(f.buf[:n], client, local)
		if t == nil {
			continue
		}
		return copy(p, f.forLockstep(t)), net.UDPAddrFromAddrPort(client), nil
	}
}

// receive reads one datagram, and says to which of our addresses it came.
func (f *front) receive() (n int, client, local netip.AddrPort, err error) {
	for failed := 0; ; {
		var oobn int
		n, oobn, _, client, err = f.conn.ReadMsgUDPAddrPort(f.buf[:], f.oob[:])
		if err != nil {
			// An error that does not come again is not worth an outage.
			if failed++; errors.Is(err, net.ErrClosed) || failed > 16 {
				return 0, client, local, err
			}
			continue
		}
		client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
		local = f.local
		if f.anyAddr {
			var cm ipv4.ControlMessage
			if cm.Parse(f.oob[:oobn]) != nil {
				continue
			}
			dst, ok := netip.AddrFromSlice(cm.Dst)
			// RFC 1123 section 4.2.3.5: a request to a broadcast address is ignored.
			if !ok || dst.IsMulticast() || dst.Unmap() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
				continue
			}
			local = netip.AddrPortFrom(dst.Unmap(), f.local.Port())
		}
		return n, client, local, nil
	}
}

// take deals with one datagram. It returns a transfer that is for pin/tftp.
func (f *front) take(p []byte, client, local netip.AddrPort) *transfer {
	s := f.srv
	req, err := parseRequest(p)
	if err != nil {
		s.cfg.Log.Debug("tftp request refused", "client", client, "err", err)
		f.refuse(client, local, err)
		return nil
	}
	if req == nil {
		return nil
	}
	t := &transfer{key: key{client, local, req.name}, req: *req, started: s.cfg.Now()}
	switch s.ledger.admit(t, t.started) {
	case folded:
		return nil
	case full:
		// No answer: the client asks again, and by then there may be room. An
		// error would end its boot.
		s.cfg.Log.Debug("tftp request dropped: too many transfers", "client", client, "name", req.name)
		return nil
	}
	if s.cfg.Slow(req.name) {
		f.slowly(t)
		return nil
	}
	source, ok := f.open(t)
	if !ok {
		return nil
	}
	if !t.req.netascii || source != local.Addr() {
		f.window(t)
		return nil
	}
	return t
}

// open opens the file of a transfer that was admitted, and settles its options. source
// is the address that datagrams to the client leave from when the sender does not say.
// ok is false when the transfer is over.
func (f *front) open(t *transfer) (source netip.Addr, ok bool) {
	s := f.srv
	var err error
	if t.file, err = s.cfg.Open(Request{Client: t.client, Name: t.name, Options: t.req.spelled}); err != nil {
		t.file = nil // whatever came with the error
		f.refuse(t.client, t.local, err)
		s.refused(t, err)
		return source, false
	}
	rt, err := routeTo(t.client)
	if err != nil {
		s.refused(t, err) // no way to the client: no answer either
		return source, false
	}
	if t.req.netascii && t.req.block < stdBlock {
		t.req.block = 0 // pin/tftp refuses them
	}
	if t.file.Size() == 0 {
		t.req.tsize = false // curl takes a size of 0 for an error; pin/tftp never sends it
	}
	t.block = min(t.req.blockSize(), rt.maxBlock())
	return rt.source, true
}

// forLockstep enters a claim for t and spells the request for pin/tftp. The claim
// stands where the file name would: it leads lockstepRead back to t, whatever else
// the client asked for. Option names are in lower case, the only spelling that the
// library knows, and the block size is what the path carries.
func (f *front) forLockstep(t *transfer) []byte {
	f.count++
	f.handed = strconv.FormatUint(f.count, 10)
	f.mu.Lock()
	f.claims[f.handed] = t
	f.mu.Unlock()
	p := binary.BigEndian.AppendUint16(make([]byte, 0, 128), opRRQ)
	p = append(p, f.handed...)
	p = append(p, 0)
	p = append(p, "netascii\x00"...)
	if t.req.block > 0 {
		p = appendOption(p, "blksize", int64(t.block))
	}
	// No tsize: the size on the wire is another than the file's.
	return p
}

// claim gives the transfer of a claim, once; nil when there is none.
func (f *front) claim(name string) *transfer {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.claims[name]
	delete(f.claims, name)
	return t
}

// refuse answers a request with an ERROR packet, from the request port: clients
// take the first answer from any port.
func (f *front) refuse(client, local netip.AddrPort, err error) {
	code, text := uint16(codeUndefined), "internal error"
	var r *refusal
	switch {
	case errors.As(err, &r):
		code, text = r.code, r.text
	case errors.Is(err, fs.ErrNotExist):
		code, text = codeNotFound, "file not found"
	case errors.Is(err, fs.ErrPermission):
		code, text = codeAccess, "access denied"
	}
	var oob []byte
	if f.anyAddr {
		oob = (&ipv4.ControlMessage{Src: local.Addr().AsSlice()}).Marshal()
	}
	if _, _, err := f.conn.WriteMsgUDPAddrPort(appendError(nil, code, text), oob, client); err != nil {
		f.srv.cfg.Log.Debug("tftp error not sent", "client", client, "err", err)
	}
}

// refused ends a transfer that did not start.
func (s *Server) refused(t *transfer, err error) {
	s.end(t, Transfer{BlockSize: t.block, WindowSize: 1, Err: err})
}

// end takes t out of the ledger, releases its file and reports tr.
func (s *Server) end(t *transfer, tr Transfer) {
	tr.Client, tr.Name = t.key.client, t.key.name
	tr.Took = s.cfg.Now().Sub(t.started)
	if t.file != nil {
		tr.File, tr.Size = t.file, t.file.Size()
		t.file.Release()
	}
	s.ledger.remove(t)
	s.cfg.Done(tr)
}

// The rest of net.PacketConn.

func (f *front) WriteTo([]byte, net.Addr) (int, error) { return 0, errors.ErrUnsupported }
func (f *front) Close() error                          { return f.conn.Close() }
func (f *front) LocalAddr() net.Addr                   { return f.conn.LocalAddr() }
func (f *front) SetDeadline(t time.Time) error         { return f.conn.SetDeadline(t) }
func (f *front) SetReadDeadline(t time.Time) error     { return f.conn.SetReadDeadline(t) }
func (f *front) SetWriteDeadline(t time.Time) error    { return f.conn.SetWriteDeadline(t) }
