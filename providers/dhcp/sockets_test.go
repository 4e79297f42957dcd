package dhcp

import "github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"

// LoseSockets closes every socket behind the provider's back, and gives what drift calls
// them.
func (p *Provider) LoseSockets() (lost []string) {
	p.socks.Each(func(ep dhcp4.Endpoint, c *dhcp4.Conn) {
		c.Close()
		name := "dhcp " + ep.Listen.String()
		if ep.Interface != "" {
			name += " on " + ep.Interface
		}
		lost = append(lost, name)
	})
	return lost
}
