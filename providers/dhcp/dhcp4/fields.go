package dhcp4

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// optionForm is how the value of an option is printed.
type optionForm int

const (
	formHex optionForm = iota
	formText
	formAddrs
	formNumber
)

// optionNames holds the options that Reply and ProxyReply send. It is never written to.
var optionNames = map[uint8]struct {
	name string
	form optionForm
}{
	1:   {"subnet-mask", formAddrs},
	3:   {"routers", formAddrs},
	6:   {"domain-name-servers", formAddrs},
	12:  {"host-name", formText},
	15:  {"domain-name", formText},
	26:  {"interface-mtu", formNumber},
	28:  {"broadcast-address", formAddrs},
	42:  {"ntp-servers", formAddrs},
	51:  {"lease-time", formNumber},
	54:  {"server-identifier", formAddrs},
	58:  {"renewal-time", formNumber},
	59:  {"rebinding-time", formNumber},
	60:  {"vendor-class", formText},
	66:  {"tftp-server-name", formText},
	67:  {"boot-file-name", formText},
	175: {"ipxe", formHex},
	208: {"pxelinux-magic", formHex},
	209: {"config-file", formText},
	210: {"path-prefix", formText},
}

// echoed lists the options that repeat what the client or its relay agent said,
// and the message type, which says where in the exchange an answer stands.
var echoed = [...]uint8{53, 61, 82, 97}

// Fields prints what a server decided about a client: the address fields, the
// file, the server name, and every option. What only repeats the client's words
// (xid, secs, flags, hops, chaddr, ciaddr, giaddr, options 61, 82 and 97) and the
// message type are left out, so that an offer, its acknowledgement, and what
// `explain` says are equal.
//
// Keys are "yiaddr", "siaddr", "file", "sname", and "option N name", or "option N"
// for options that are never sent. Numbers are decimal, times in seconds,
// addresses joined by commas, bytes without a meaning in hex.
func Fields(p *dhcpv4.DHCPv4) map[string]string {
	m := make(map[string]string, 4+len(p.Options))
	m["yiaddr"] = addrText(p.YourIPAddr)
	m["siaddr"] = addrText(p.ServerIPAddr)
	m["file"] = p.BootFileName
	m["sname"] = p.ServerHostName
options:
	for code, value := range p.Options {
		for _, e := range echoed {
			if code == e {
				continue options
			}
		}
		o := optionNames[code]
		number := strconv.Itoa(int(code))
		key := "option " + number
		if o.name != "" {
			key = "option " + number + " " + o.name
		}
		m[key] = optionText(o.form, value)
	}
	return m
}

func addrText(b []byte) string {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return "0.0.0.0"
	}
	return a.Unmap().String()
}

// optionText falls back to hex for a value that does not have its form.
func optionText(form optionForm, b []byte) string {
	switch {
	case form == formText:
		return string(b)
	case form == formAddrs && len(b) == 4:
		return addrText(b)
	case form == formAddrs && len(b) > 0 && len(b)%4 == 0:
		var as []string
		for ; len(b) > 0; b = b[4:] {
			as = append(as, addrText(b[:4]))
		}
		return strings.Join(as, ",")
	case form == formNumber && len(b) == 4:
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32(b)), 10)
	case form == formNumber && len(b) == 2:
		return strconv.FormatUint(uint64(binary.BigEndian.Uint16(b)), 10)
	}
	return hex.EncodeToString(b)
}
