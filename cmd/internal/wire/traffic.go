package wire

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Traffic is what a capture holds, each list in the order in which its entries
// began. Entries belong to the caller.
type Traffic struct {
	DHCP []*DHCP
	TFTP []*TFTP
	HTTP []*HTTP
	NBD  []*NBD

	Frames int // read
	// Short counts the frames of which the capture keeps only the beginning.
	Short int
	// Malformed counts packets and streams of the protocols above that break them.
	Malformed int
	// Unfinished says that the file ends within a frame: it is still being written,
	// or its writer was killed. The frames before are read.
	Unfinished bool
}

// DHCP is one DHCPv4 packet.
type DHCP struct {
	At         time.Time
	MAC        provider.MAC // chaddr, whoever sent it
	FromClient bool         // op is BOOTREQUEST
	Src, Dst   netip.AddrPort
	Packet     *dhcpv4.DHCPv4
}

// TFTP is one read transfer (RFC 1350), from its request on. A request that is
// repeated before the transfer ends is the same one.
type TFTP struct {
	At, End time.Time // of the request, and of the transfer's last packet
	MAC     provider.MAC
	Client  netip.AddrPort
	Server  netip.AddrPort // that was asked; data comes from another port
	Name    string         // as the client spells it
	Mode    string         // "octet", in lower case
	// Asked and Granted are options (RFC 2347), names in lower case. Granted is nil
	// when the server acknowledged none.
	Asked, Granted map[string]string
	Bytes          int64  // delivered, in order
	Digest         string // "sha256:…" of these bytes
	// LastByte is when the newest of these bytes came; zero when none did. Some
	// clients let the server repeat the last block for seconds.
	LastByte time.Time
	// Complete says that the client acknowledged the last block.
	Complete bool
	// Failure is the ERROR packet that ended it, "" when none did.
	Failure string
	// Refused says that the client sent that ERROR; else the server did.
	Refused bool
}

// HTTP is one request and its final response.
type HTTP struct {
	At, End        time.Time // of the request's first byte and the response's last
	MAC            provider.MAC
	Client, Server netip.AddrPort
	Method         string // "" when the request was not captured
	Target         string // the request-target as sent, such as "/b/x/boot.ipxe?a=1"
	Request        http.Header
	Status         int // 0 when no response came
	Response       http.Header
	Length         int64  // Content-Length of the response, -1 when it has none
	Bytes          int64  // of the body that came, after chunks were joined
	Digest         string // "sha256:…" of these bytes
	Body           []byte // these bytes, while they are at most MaxBody; else nil
	Complete       bool   // the whole response came
}

// MaxBody is the size up to which HTTP.Body keeps a body.
const MaxBody = 64 << 10

// NBD is one NBD_OPT_GO, NBD_OPT_INFO or NBD_OPT_EXPORT_NAME and its answer, of the
// fixed newstyle negotiation.
type NBD struct {
	At             time.Time
	MAC            provider.MAC
	Client, Server netip.AddrPort
	Option         string // "GO", "INFO", "EXPORT_NAME"
	Export         string // as the client spells it
	// Granted says that the server accepted; the fields below say what.
	Granted bool
	Size    uint64 // bytes
	Flags   uint16 // transmission flags
	// Block sizes, all 0 when the server did not tell.
	MinBlock, PreferredBlock, MaxBlock uint32
	// Failure is the error reply, such as "ERR_UNKNOWN: no such export"; "" when there
	// is none.
	Failure string
}

// Of gives the part that is about one machine. Entries are shared, counts are the
// whole capture's.
func (t *Traffic) Of(mac provider.MAC) *Traffic {
	part := *t
	part.DHCP = only(t.DHCP, func(e *DHCP) bool { return e.MAC == mac })
	part.TFTP = only(t.TFTP, func(e *TFTP) bool { return e.MAC == mac })
	part.HTTP = only(t.HTTP, func(e *HTTP) bool { return e.MAC == mac })
	part.NBD = only(t.NBD, func(e *NBD) bool { return e.MAC == mac })
	return &part
}

func only[E any](all []E, keep func(E) bool) []E {
	var some []E
	for _, e := range all {
		if keep(e) {
			some = append(some, e)
		}
	}
	return some
}

// ReadFile reads a capture from a file.
func ReadFile(path string) (*Traffic, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Read reads a capture. What is in the capture gives no error, however broken;
// only its container does (ErrFormat), and r. Memory is bounded by what it lists,
// not by the capture's size.
func Read(r io.Reader) (*Traffic, error) {
	frames, err := newFrames(r)
	if err != nil {
		return nil, err
	}
	d := newDecoder()
	for {
		f, err := frames.next()
		switch {
		case errors.Is(err, io.EOF):
			return d.finish(), nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			d.traffic.Unfinished = true
			return d.finish(), nil
		case err != nil:
			return nil, err
		}
		d.frame(f)
	}
}
