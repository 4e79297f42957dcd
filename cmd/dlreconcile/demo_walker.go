package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/pin/tftp/v3"
	"github.com/pojntfx/go-nbd/pkg/protocol"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// walker is the client of the demo without machines. Ports are those of DHCP,
// TFTP, HTTP and NBD.
type walker struct {
	mac    provider.MAC
	ports  []int
	addr   netip.Addr
	export string
	size   int64
	flags  uint16 // transmission flags that the server gave
	first  []byte // the beginning of the root as it was at first
	conn   net.Conn
}

const walkerTimeout = 10 * time.Second

// freePorts finds n ports on loopback that are free for TCP and UDP.
func freePorts(n int) ([]int, error) {
	var ports []int
	var open []io.Closer
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for len(ports) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, l)
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue
		}
		open = append(open, u)
		ports = append(ports, port)
	}
	return ports, nil
}

func (w *walker) server(i int) string { return fmt.Sprintf("127.0.0.1:%d", w.ports[i]) }

// from is the client's own address: servers know it by its lease.
func (w *walker) from() net.IP { return w.addr.AsSlice() }

// dhcp gets an address as iPXE would, and the boot file.
func (w *walker) dhcp(ctx context.Context) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", w.server(0))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(walkerTimeout)); err != nil {
		return "", err
	}
	pxe := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")),
		dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")),
		dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0, 0}),
	}
	discover, err := dhcpv4.NewDiscovery(w.mac[:], pxe...)
	if err != nil {
		return "", err
	}
	offer, err := exchange(conn, discover)
	if err != nil {
		return "", err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, pxe...)
	if err != nil {
		return "", err
	}
	ack, err := exchange(conn, request)
	if err != nil {
		return "", err
	}
	if ack.MessageType() != dhcpv4.MessageTypeAck {
		return "", fmt.Errorf("the server answers %s", ack.MessageType())
	}
	w.addr, _ = netip.AddrFromSlice(ack.YourIPAddr.To4())
	if file := ack.BootFileNameOption(); file != "" {
		return file, nil
	}
	return ack.BootFileName, nil
}

func exchange(conn net.Conn, p *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	if _, err := conn.Write(p.ToBytes()); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	n, err := conn.Read(buf)
	if err != nil {
		return nil, err
	}
	return dhcpv4.FromBytes(buf[:n])
}

func (w *walker) http(ctx context.Context, name string) (string, error) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: w.from()}, Timeout: walkerTimeout}
	t := &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.server(2)+"/"+name, nil)
	if err != nil {
		return "", err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	return digestOf(resp.Body)
}

func (w *walker) tftp(_ context.Context, name string) (string, error) {
	c, err := tftp.NewClient(w.server(1))
	if err != nil {
		return "", err
	}
	c.SetTimeout(walkerTimeout)
	from, err := c.Receive(name, "octet")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := from.WriteTo(h); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

func digestOf(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), err
}

// nbdGo is the information reply of NBD_OPT_GO that matters here.
type nbdGo struct {
	export string
	size   uint64
	flags  uint16
}

// attach negotiates the root and reads its beginning.
func (w *walker) attach(ctx context.Context) (err error) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: w.from()}, Timeout: walkerTimeout}
	if w.conn, err = d.DialContext(ctx, "tcp", w.server(3)); err != nil {
		return err
	}
	got, err := w.negotiate()
	if err != nil {
		return err
	}
	if int64(got.size) != w.size {
		return fmt.Errorf("%s has %d bytes, explain says %d", got.export, got.size, w.size)
	}
	w.flags = got.flags
	w.first, err = w.read(0, 1<<16)
	return err
}

// negotiate speaks fixed newstyle up to the answer to NBD_OPT_GO (proto.md,
// "Fixed newstyle negotiation").
func (w *walker) negotiate() (nbdGo, error) {
	got := nbdGo{export: w.export}
	if err := w.conn.SetDeadline(time.Now().Add(walkerTimeout)); err != nil {
		return got, err
	}
	var hello protocol.NegotiationNewstyleHeader
	if err := binary.Read(w.conn, binary.BigEndian, &hello); err != nil {
		return got, err
	}
	if hello.OptionMagic != protocol.NEGOTIATION_MAGIC_OPTION {
		return got, errors.New("the server does not speak newstyle negotiation")
	}
	var b bytes.Buffer
	for _, v := range []any{
		uint32(protocol.NEGOTIATION_HANDSHAKE_FLAG_FIXED_NEWSTYLE),
		protocol.NegotiationOptionHeader{OptionMagic: protocol.NEGOTIATION_MAGIC_OPTION, ID: protocol.NEGOTIATION_ID_OPTION_GO, Length: uint32(len(w.export) + 6)},
		uint32(len(w.export)), []byte(w.export), uint16(0),
	} {
		if err := binary.Write(&b, binary.BigEndian, v); err != nil {
			return got, err
		}
	}
	if _, err := w.conn.Write(b.Bytes()); err != nil {
		return got, err
	}
	for {
		var h protocol.NegotiationReplyHeader
		if err := binary.Read(w.conn, binary.BigEndian, &h); err != nil {
			return got, err
		}
		if h.ReplyMagic != protocol.NEGOTIATION_MAGIC_REPLY || h.Length > 64<<10 {
			return got, errors.New("the server's reply is malformed")
		}
		body := make([]byte, h.Length)
		if _, err := io.ReadFull(w.conn, body); err != nil {
			return got, err
		}
		switch {
		case h.Type == protocol.NEGOTIATION_TYPE_REPLY_ACK:
			return got, nil
		case h.Type == protocol.NEGOTIATION_TYPE_REPLY_INFO && len(body) == 12 && binary.BigEndian.Uint16(body) == protocol.NEGOTIATION_TYPE_INFO_EXPORT:
			got.size, got.flags = binary.BigEndian.Uint64(body[2:]), binary.BigEndian.Uint16(body[10:])
		case h.Type&(1<<31) != 0:
			return got, fmt.Errorf("the server refuses %s: %s", w.export, body)
		}
	}
}

// read asks for n bytes of the root from offset on.
func (w *walker) read(offset uint64, n uint32) ([]byte, error) {
	if err := w.conn.SetDeadline(time.Now().Add(walkerTimeout)); err != nil {
		return nil, err
	}
	req := protocol.TransmissionRequestHeader{RequestMagic: protocol.TRANSMISSION_MAGIC_REQUEST, Type: protocol.TRANSMISSION_TYPE_REQUEST_READ, Handle: 1, Offset: offset, Length: n}
	if err := binary.Write(w.conn, binary.BigEndian, req); err != nil {
		return nil, err
	}
	var reply protocol.TransmissionReplyHeader
	if err := binary.Read(w.conn, binary.BigEndian, &reply); err != nil {
		return nil, err
	}
	if reply.ReplyMagic != protocol.TRANSMISSION_MAGIC_REPLY || reply.Error != 0 {
		return nil, fmt.Errorf("read: error %d", reply.Error)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(w.conn, b)
	return b, err
}

// same fails unless the root still begins as it did.
func (w *walker) same() error {
	now, err := w.read(0, uint32(len(w.first)))
	if err != nil {
		return err
	}
	if !bytes.Equal(now, w.first) {
		return fmt.Errorf("the bytes of %s have changed under a client", w.export)
	}
	return nil
}

func (w *walker) close() error {
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}
