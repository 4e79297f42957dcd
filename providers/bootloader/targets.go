package bootloader

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// What clients say in options 60 and 77.
const (
	classIPXE  = "iPXE"
	vendorHTTP = "HTTPClient"
)

// places says where a server's clients find files.
type places struct {
	tftp, http netip.AddrPort // the zero value: not served
}

func placesOf(s *schema.Server) places {
	var p places
	if !s.TFTP.Disabled {
		p.tftp = netip.AddrPortFrom(s.Address, s.TFTP.Listen.Port())
	}
	if !s.HTTP.Disabled {
		p.http = netip.AddrPortFrom(s.Address, s.HTTP.Listen.Port())
	}
	return p
}

// httpURL is the base URL, without a slash at the end; "" when HTTP is off.
func (p places) httpURL() string {
	switch {
	case !p.http.IsValid():
		return ""
	case p.http.Port() == 80:
		return "http://" + p.http.Addr().String()
	}
	return "http://" + p.http.String()
}

// locate says by which protocol, where and under which path a client fetches a file
// that it is told as a path or a URL. A path is of our TFTP server.
func (p places) locate(file string) (protocol, server, path string) {
	scheme, rest, isURL := strings.Cut(file, "://")
	if !isURL {
		return "tftp", p.tftp.String(), strings.TrimLeft(file, "/")
	}
	host, path, _ := strings.Cut(rest, "/")
	port := map[string]uint16{"http": 80, "tftp": 69}[scheme]
	if addr, err := netip.ParseAddr(host); err == nil && port != 0 {
		host = netip.AddrPortFrom(addr, port).String()
	}
	return scheme, host, strings.TrimLeft(path, "/")
}

// url gives the URL of a file of a tree, or its path when it is fetched over TFTP
// from the server that DHCP names.
func (p places) url(protocol schema.Protocol, path string) string {
	switch {
	case protocol == schema.HTTP:
		return p.httpURL() + "/" + path
	case p.tftp.Port() == 69:
		return path
	}
	return fmt.Sprintf("tftp://%s/%s", p.tftp, path)
}

// absolute is url, but always a URL: what another server has named counts for
// nothing.
func (p places) absolute(protocol schema.Protocol, path string) string {
	if protocol == schema.HTTP {
		return p.httpURL() + "/" + path
	}
	return fmt.Sprintf("tftp://%s/%s", p.tftp, path)
}

// classOf gives the user class by which a client is served, by the rule that DHCP
// follows too: one that some target names is served by those targets alone, any other
// client is firmware, and has none.
func classOf(offers []*offer, q provider.Query) string {
	for _, o := range offers {
		for _, t := range o.out.Targets {
			if t.Class != "" && t.Class == q.Class {
				return t.Class
			}
		}
	}
	return ""
}

// pick gives the target that the client of a query is told.
func pick(offers []*offer, q provider.Query) (*offer, provider.Target, bool) {
	class := classOf(offers, q)
	for _, o := range offers {
		for _, t := range o.out.Targets {
			if t.Class == class && t.HTTP == (q.Vendor == vendorHTTP) && (t.Arch == q.Arch || t.Arch == provider.AnyArch) {
				return o, t, true
			}
		}
	}
	return nil, provider.Target{}, false
}

// fitting gives the offers whose kernels run on a client's machine; all, when there
// are none, or nothing is known of such machines.
func fitting(offers []*offer, arch uint16) []*offer {
	var list []*offer
	for _, o := range offers {
		if schema.ClientArchOf(arch).Platform.Boots(o.arch) {
			list = append(list, o)
		}
	}
	if list == nil {
		return offers
	}
	return list
}

// noLoader says why firmware is offered nothing.
func noLoader(arch uint16, http bool, offers []*offer) string {
	what := schema.ClientArchOf(arch)
	how := "TFTP"
	if http {
		how = "HTTP boot"
	}
	var loaders []string
	for _, o := range offers {
		if http && !o.places.http.IsValid() {
			return "HTTP is switched off on the server"
		}
		if !http && !o.places.tftp.IsValid() {
			return "TFTP is switched off on the server"
		}
		if what.Platform != "" && !what.Platform.Boots(o.arch) {
			return fmt.Sprintf("client architecture %d (%s) cannot run the kernel of %s, which is for %s", arch, what.Name, o.choices[0].entry.Image, o.arch)
		}
		for _, w := range o.lacks {
			if w.platform == what.Platform {
				return fmt.Sprintf("%s was not found on this host; it is in the package %s", w.name, w.pkg)
			}
		}
		loaders = append(loaders, o.boot.Addr.String())
	}
	return fmt.Sprintf("%s has no program for client architecture %d (%s) by %s", strings.Join(loaders, ", "), arch, what.Name, how)
}
