package dhcp

import (
	"fmt"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
)

// proxied completes an answer on a subnet whose addresses another server gives out:
// the offer of a boot file, without an address; or, for a system and for firmware
// that there is no file for, silence.
func (s *subnet) proxied(a *provider.Answer, f *dhcp4.Facts) {
	a.Fields = map[string]string{}
	if f.Boots() {
		a.Name, a.Fail = s.bootFile(f)
	}
	if r := dhcp4.ProxyReply(s.wire, f, dhcpv4.MessageTypeOffer); r != nil {
		a.Fields = dhcp4.Fields(r)
		return
	}
	a.Server = ""
	a.Text = fmt.Sprintf("addresses on %s come from another DHCP server", s.Addr)
}
