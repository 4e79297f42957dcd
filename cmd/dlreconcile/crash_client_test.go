package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/pojntfx/go-nbd/pkg/protocol"

	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// crashClient is a machine that boots while the daemon is made to fail, and that
// remembers what it was promised.
type crashClient struct {
	w       walker
	leased  netip.Addr // by an ACK
	flushed []byte     // at flushedAt, by a reply to FLUSH; nil: nothing
}

// flushedAt is where the client writes, in bytes.
const flushedAt = 1 << 20

func newCrashClient(l *crashLane, n byte) *crashClient {
	return &crashClient{w: walker{mac: provider.MAC{0x52, 0x54, 0, 0, 2, n}, ports: l.ports}}
}

// patiently does something until it succeeds or the daemon is gone: packets get
// lost, and a server that could not write asks to be asked again.
func patiently(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// address gets an address, and gives it.
func (c *crashClient) address(ctx context.Context) (netip.Addr, error) {
	var got netip.Addr
	err := patiently(ctx, func() error {
		conn, err := net.Dial("udp", c.w.server(0))
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		pxe := []dhcpv4.Modifier{
			dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")),
			dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")),
			dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0, 0}),
		}
		discover, err := dhcpv4.NewDiscovery(c.w.mac[:], pxe...)
		if err != nil {
			return err
		}
		offer, err := exchange(conn, discover)
		if err != nil {
			return err
		}
		request, err := dhcpv4.NewRequestFromOffer(offer, pxe...)
		if err != nil {
			return err
		}
		ack, err := exchange(conn, request)
		if err != nil {
			return err
		}
		if ack.MessageType() != dhcpv4.MessageTypeAck {
			return fmt.Errorf("the server answers %s", ack.MessageType())
		}
		got, _ = netip.AddrFromSlice(ack.YourIPAddr.To4())
		return nil
	})
	return got, err
}

// decline says that somebody else has the address, which no server answers.
func (c *crashClient) decline(addr netip.Addr) error {
	conn, err := net.Dial("udp", c.w.server(0))
	if err != nil {
		return err
	}
	defer conn.Close()
	decline, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline), dhcpv4.WithHwAddr(c.w.mac[:]),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(addr.AsSlice())), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(127, 0, 0, 1))))
	if err != nil {
		return err
	}
	_, err = conn.Write(decline.ToBytes())
	return err
}

// boot gets an address and a root, and writes to it.
func (c *crashClient) boot(ctx context.Context, l *crashLane) error {
	addr, err := c.address(ctx)
	if err != nil {
		return fmt.Errorf("DHCP: %w", err)
	}
	c.leased, c.w.addr = addr, addr
	var told explain.Result
	err = patiently(ctx, func() error {
		return l.client.Get(ctx, "/v1/explain", map[string][]string{"machine": {c.w.mac.String()}, "class": {"iPXE"}}, &told)
	})
	if err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	for _, a := range told.Steps {
		if a.Kind == provider.AnswerRoot {
			c.w.export, c.w.size = a.Name, a.Size
		}
	}
	wrote := bytes.Repeat([]byte{0xd1}, 8<<10)
	err = patiently(ctx, func() error {
		if err := c.attach(ctx); err != nil {
			return err
		}
		if err := c.ask(protocol.TRANSMISSION_TYPE_REQUEST_WRITE, wrote); err != nil {
			return err
		}
		const flush = 3 // NBD_CMD_FLUSH, which the library does not name
		return c.ask(flush, nil)
	})
	if err != nil {
		return fmt.Errorf("NBD: %w", err)
	}
	c.flushed = wrote
	return nil
}

func (c *crashClient) attach(ctx context.Context) error {
	if err := c.w.close(); err != nil && c.w.conn == nil {
		return err
	}
	return c.w.attach(ctx)
}

// ask sends a request about the bytes at flushedAt, with data for a write.
func (c *crashClient) ask(kind uint16, data []byte) error {
	if err := c.w.conn.SetDeadline(time.Now().Add(walkerTimeout)); err != nil {
		return err
	}
	req := protocol.TransmissionRequestHeader{RequestMagic: protocol.TRANSMISSION_MAGIC_REQUEST, Type: kind, Handle: 2}
	if data != nil {
		req.Offset, req.Length = flushedAt, uint32(len(data))
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.BigEndian, req); err != nil {
		return err
	}
	b.Write(data)
	if _, err := c.w.conn.Write(b.Bytes()); err != nil {
		return err
	}
	var reply protocol.TransmissionReplyHeader
	if err := binary.Read(c.w.conn, binary.BigEndian, &reply); err != nil {
		return err
	}
	if reply.ReplyMagic != protocol.TRANSMISSION_MAGIC_REPLY || reply.Error != 0 {
		return fmt.Errorf("request %d: error %d", kind, reply.Error)
	}
	return nil
}

// kept says which promise the daemon broke; nil: none.
func (c *crashClient) kept(ctx context.Context) error {
	if c.flushed != nil {
		// Its connection is gone; the machine is not.
		if err := patiently(ctx, func() error { return c.attach(ctx) }); err != nil {
			return fmt.Errorf("a machine that runs cannot attach its root again: %w", err)
		}
		req := protocol.TransmissionRequestHeader{RequestMagic: protocol.TRANSMISSION_MAGIC_REQUEST,
			Type: protocol.TRANSMISSION_TYPE_REQUEST_READ, Handle: 3, Offset: flushedAt, Length: uint32(len(c.flushed))}
		if err := binary.Write(c.w.conn, binary.BigEndian, req); err != nil {
			return err
		}
		var reply protocol.TransmissionReplyHeader
		if err := binary.Read(c.w.conn, binary.BigEndian, &reply); err != nil {
			return err
		}
		got := make([]byte, len(c.flushed))
		if reply.Error != 0 {
			return fmt.Errorf("read: error %d", reply.Error)
		}
		if _, err := io.ReadFull(c.w.conn, got); err != nil {
			return err
		}
		if !bytes.Equal(got, c.flushed) {
			return fmt.Errorf("what was flushed to an overlay is lost")
		}
	}
	if c.leased.IsValid() {
		got, err := c.address(ctx)
		if err != nil {
			return fmt.Errorf("DHCP: %w", err)
		}
		if got != c.leased {
			return fmt.Errorf("a machine that had %s gets %s", c.leased, got)
		}
	}
	return nil
}
