package dhcp4

import (
	"sync/atomic"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Count says how many packets of a type got an answer of a type.
type Count struct {
	// Asked is "bootp", "discover", "request", "decline", "release", "inform", "other", or
	// "malformed" for what is no packet of a client's.
	Asked string
	// Answered is "offer", "ack", "nak", "bootp", or "none".
	Answered string
	Packets  uint64
}

// asked and answered name the rows and columns of counts.
func asked() [8]string {
	return [...]string{"malformed", "bootp", "discover", "request", "decline", "release", "inform", "other"}
}

func answered() [5]string { return [...]string{"none", "offer", "ack", "nak", "bootp"} }

// counts counts packets by what they are and what they got.
type counts [8][5]atomic.Uint64

// add counts one packet. f is nil when it is none; a is nil when it got no answer.
func (c *counts) add(f *Facts, a *Answer) {
	row, column := 0, 0
	if f != nil {
		switch f.Type {
		case dhcpv4.MessageTypeNone:
			row = 1
		case dhcpv4.MessageTypeDiscover:
			row = 2
		case dhcpv4.MessageTypeRequest:
			row = 3
		case dhcpv4.MessageTypeDecline:
			row = 4
		case dhcpv4.MessageTypeRelease:
			row = 5
		case dhcpv4.MessageTypeInform:
			row = 6
		default:
			row = 7
		}
	}
	if a != nil {
		switch messageType(a.Packet) {
		case dhcpv4.MessageTypeOffer:
			column = 1
		case dhcpv4.MessageTypeAck:
			column = 2
		case dhcpv4.MessageTypeNak:
			column = 3
		default:
			column = 4
		}
	}
	c[row][column].Add(1)
}

// messageType is dhcpv4's MessageType, which allocates.
func messageType(p *dhcpv4.DHCPv4) dhcpv4.MessageType {
	if v := p.Options[dhcpv4.OptionDHCPMessageType.Code()]; len(v) == 1 {
		return dhcpv4.MessageType(v[0])
	}
	return dhcpv4.MessageTypeNone
}

// Counts says what came of all packets so far: the pairs that were seen.
func (s *Server) Counts() []Count {
	var list []Count
	for row, ask := range asked() {
		for column, answer := range answered() {
			if n := s.counts[row][column].Load(); n > 0 {
				list = append(list, Count{ask, answer, n})
			}
		}
	}
	return list
}
