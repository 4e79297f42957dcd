package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// mixMAC gives the hardware address of a machine by its name.
func mixMAC(name string) provider.MAC {
	h := fnv.New32a()
	h.Write([]byte(name))
	return provider.MAC(append([]byte{0x52, 0x54}, h.Sum(nil)...))
}

// mixWire is a machine's network card.
type mixWire struct {
	mac  provider.MAC
	addr netip.Addr // as the machine's DHCP server gave it
	// relay is the relay agent on the machine's wire: it says which subnet that is.
	relay netip.Addr
}

// asks is what a DHCP client says about itself.
type asks struct {
	vendor, class string
	arch          uint16
}

var (
	askBIOS   = asks{"PXEClient:Arch:00000:UNDI:002001", "", 0}
	askUEFI   = asks{"PXEClient:Arch:00007:UNDI:003000", "", 7}
	askHTTP   = asks{"HTTPClient:Arch:00016:UNDI:003000", "", 16}
	askIPXE   = asks{"PXEClient:Arch:00000:UNDI:002001", "iPXE", 0}
	askSystem = asks{}
)

func (a asks) options() []dhcpv4.Modifier {
	if a.vendor == "" {
		return nil
	}
	list := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(a.vendor)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{byte(a.arch >> 8), byte(a.arch)}),
	}
	if a.class != "" {
		list = append(list, dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte(a.class)))
	}
	return list
}

// broadcast sends what the machine says to everybody, as its relay agent passes it on
// (RFC 1542, section 4.1), and gives the answer; nil when none is awaited.
func (w *mixWire) broadcast(p *dhcpv4.DHCPv4, await bool) (*dhcpv4.DHCPv4, error) {
	p.GatewayIPAddr = w.relay.AsSlice()
	return w.send(netip.AddrPortFrom(w.relay, mixDHCPPort), mixDHCPPort, p, await)
}

// late asks the proxy for the boot file.
func (w *mixWire) late(p *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	return w.send(netip.AddrPortFrom(w.addr, mixLatePort), mixLatePort, p, true)
}

func (w *mixWire) send(from netip.AddrPort, port int, p *dhcpv4.DHCPv4, await bool) (*dhcpv4.DHCPv4, error) {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(from)}
	conn, err := d.Dial("udp4", net.JoinHostPort(mixServer, strconv.Itoa(port)))
	// A program that is just being started holds every socket of this process until it
	// runs, closed ones too.
	for until := time.Now().Add(walkerTimeout); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(until); {
		<-time.After(time.Millisecond)
		conn, err = d.Dial("udp4", net.JoinHostPort(mixServer, strconv.Itoa(port)))
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if !await {
		_, err := conn.Write(p.ToBytes())
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(walkerTimeout)); err != nil {
		return nil, err
	}
	r, err := exchange(conn, p)
	if err == nil && r.TransactionID != p.TransactionID {
		err = errors.New("the answer is to another packet")
	}
	return r, err
}

// bootFile is what a DHCP answer says to load.
func bootFile(p *dhcpv4.DHCPv4) string {
	if file := p.BootFileNameOption(); file != "" {
		return file
	}
	return p.BootFileName
}

// get fetches a file: a URL, or else a name on the TFTP server.
func (w *mixWire) get(ctx context.Context, name string) ([]byte, error) {
	if rest, ok := strings.CutPrefix(name, "tftp://"+mixServer+":69/"); ok {
		return w.tftp(rest)
	}
	if !strings.HasPrefix(name, "http://") {
		return w.tftp(name)
	}
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: w.addr.AsSlice()}, Timeout: walkerTimeout}
	t := &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", name, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, fileLimit))
}

// post reports a stage of the boot.
func (w *mixWire) post(ctx context.Context, stage string) error {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: w.addr.AsSlice()}, Timeout: walkerTimeout}
	t := &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+mixServer+"/phone/"+stage, nil)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("reporting %s: %s", stage, resp.Status)
	}
	return nil
}

// TFTP opcodes, RFC 1350 section 5 and RFC 2347.
const (
	tftpRRQ   = 1
	tftpData  = 3
	tftpAck   = 4
	tftpError = 5
	tftpOAck  = 6
)

// tftp fetches a file in lockstep (RFC 1350, with the block size of RFC 2348). The
// client of the library cannot choose the address that it asks from.
func (w *mixWire) tftp(name string) ([]byte, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: w.addr.AsSlice()})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	const block = 1408
	rrq := fmt.Appendf([]byte{0, tftpRRQ}, "%s\x00octet\x00blksize\x00%d\x00", name, block)
	server := &net.UDPAddr{IP: net.ParseIP(mixServer), Port: 69}
	if err := conn.SetDeadline(time.Now().Add(walkerTimeout)); err != nil {
		return nil, err
	}
	if _, err := conn.WriteTo(rrq, server); err != nil {
		return nil, err
	}
	var out []byte
	buf := make([]byte, 4+block)
	for next := uint16(1); ; {
		if err := conn.SetDeadline(time.Now().Add(walkerTimeout)); err != nil {
			return nil, err
		}
		n, from, err := conn.ReadFromUDP(buf)
		if err != nil {
			return nil, fmt.Errorf("tftp %s: %w", name, err)
		}
		if n < 4 {
			return nil, fmt.Errorf("tftp %s: a packet of %d bytes", name, n)
		}
		got := uint16(0)
		switch op := binary.BigEndian.Uint16(buf); {
		case op == tftpError:
			return nil, fmt.Errorf("tftp %s: %s", name, bytes.TrimRight(buf[4:n], "\x00"))
		case op == tftpData:
			got = binary.BigEndian.Uint16(buf[2:])
		case op != tftpOAck || len(out) > 0:
			return nil, fmt.Errorf("tftp %s: opcode %d", name, op)
		}
		if got == next {
			out = append(out, buf[4:n]...)
			next++
		}
		if _, err := conn.WriteTo(binary.BigEndian.AppendUint16([]byte{0, tftpAck}, got), from); err != nil {
			return nil, err
		}
		if got == next-1 && got > 0 && n < 4+block {
			return out, nil
		}
	}
}

// attach gives the machine's root.
func (w *mixWire) attach(ctx context.Context, export string) (*walker, error) {
	root := &walker{mac: w.mac, addr: w.addr, ports: []int{67, 69, 80, 10809}, export: export, size: mixSize}
	if err := root.attach(ctx); err != nil {
		root.close()
		return nil, fmt.Errorf("attaching %s: %w", export, err)
	}
	return root, nil
}
