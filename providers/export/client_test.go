package export

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// machine is the client side of one connection, as nbdroot and a kernel are.
type machine struct {
	t     *testing.T
	nc    net.Conn
	size  uint64
	flags uint16
}

var errRefused = errors.New("the server refused")

// dial attaches to an export by name.
func (r *rig) dial(name string) (*machine, error) {
	r.t.Helper()
	return r.dialFrom(loopback, name)
}

// dialFrom attaches from an address.
func (r *rig) dialFrom(from netip.Addr, name string) (*machine, error) {
	r.t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	nc, err := d.Dial("tcp4", r.addr.String())
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	m := &machine{t: r.t, nc: nc}
	greeting := make([]byte, 18)
	if _, err := io.ReadFull(nc, greeting); err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, 3)
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_OPTION)
	b = binary.BigEndian.AppendUint32(b, protocol.NEGOTIATION_ID_OPTION_GO)
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(name)+2))
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	b = append(append(b, name...), 0, 0)
	if _, err := nc.Write(b); err != nil {
		return nil, err
	}
	for {
		var h protocol.NegotiationReplyHeader
		if err := binary.Read(nc, binary.BigEndian, &h); err != nil {
			return nil, err
		}
		data := make([]byte, h.Length)
		if _, err := io.ReadFull(nc, data); err != nil {
			return nil, err
		}
		switch {
		case h.Type == protocol.NEGOTIATION_TYPE_REPLY_ACK:
			return m, nil
		case h.Type == protocol.NEGOTIATION_TYPE_REPLY_INFO && len(data) == 12:
			m.size, m.flags = binary.BigEndian.Uint64(data[2:]), binary.BigEndian.Uint16(data[10:])
		case h.Type>>31 == 1:
			nc.Close()
			return nil, fmt.Errorf("%w: %#x %s", errRefused, h.Type, data)
		}
	}
}

func (r *rig) mustDial(name string) *machine {
	r.t.Helper()
	m, err := r.dial(name)
	if err != nil {
		r.t.Fatalf("attaching to %s: %v", name, err)
	}
	return m
}

// wantRefused fails unless the name is not served to us.
func (r *rig) wantRefused(name, when string) {
	r.t.Helper()
	if _, err := r.dial(name); !errors.Is(err, errRefused) {
		r.t.Errorf("%s, %s: %v, want a refusal", when, name, err)
	}
}

// do sends one request and reads its reply.
func (m *machine) do(typ uint16, off, n int, payload []byte) ([]byte, error) {
	b := binary.BigEndian.AppendUint32(nil, protocol.TRANSMISSION_MAGIC_REQUEST)
	b = binary.BigEndian.AppendUint32(b, uint32(typ))
	b = binary.BigEndian.AppendUint64(b, 7)
	b = binary.BigEndian.AppendUint64(b, uint64(off))
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	if _, err := m.nc.Write(append(b, payload...)); err != nil {
		return nil, err
	}
	var h protocol.TransmissionReplyHeader
	if err := binary.Read(m.nc, binary.BigEndian, &h); err != nil {
		return nil, err
	}
	if h.Error != 0 {
		return nil, fmt.Errorf("errno %d", h.Error)
	}
	if typ != protocol.TRANSMISSION_TYPE_REQUEST_READ {
		return nil, nil
	}
	data := make([]byte, n)
	_, err := io.ReadFull(m.nc, data)
	return data, err
}

func (m *machine) read(off, n int) []byte {
	m.t.Helper()
	b, err := m.do(protocol.TRANSMISSION_TYPE_REQUEST_READ, off, n, nil)
	if err != nil {
		m.t.Fatalf("read: %v", err)
	}
	return b
}

func (m *machine) write(off int, text string) {
	m.t.Helper()
	if _, err := m.do(protocol.TRANSMISSION_TYPE_REQUEST_WRITE, off, len(text), []byte(text)); err != nil {
		m.t.Fatalf("write: %v", err)
	}
}

func (m *machine) flush() {
	m.t.Helper()
	if _, err := m.do(3, 0, 0, nil); err != nil {
		m.t.Fatalf("flush: %v", err)
	}
}

// wantText fails unless text is at off.
func (m *machine) wantText(off int, text, when string) {
	m.t.Helper()
	if got := string(m.read(off, len(text))); got != text {
		m.t.Errorf("%s: %q, want %q", when, got, text)
	}
}

// wantDropped fails unless the server disconnects.
func (m *machine) wantDropped(when string) {
	m.t.Helper()
	if _, err := m.nc.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
		m.t.Errorf("%s: %v, want a disconnect", when, err)
	} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		m.t.Errorf("%s: still connected", when)
	}
}
