package api

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// question is what GET /v1/explain asks.
type question struct {
	desired *schema.Desired
	query   provider.Query // Class and Generation
	arch    *uint16        // nil: what was seen of the machine, else BIOS
	files   []string       // that a DHCP server which is not ours names
}

// explain answers GET /v1/explain?machine=MAC|HOST|ADDRESS&arch=N&class=iPXE, or with
// all=1 instead of machine, as NDJSON, what every machine would get: each host on each
// subnet where it may be, and on each subnet a machine without a host block. file=NAME,
// once for the firmware and once for the iPXE that it loads, is what a DHCP server that
// is not ours names; with all, to the machines that ask such a one. arch is a number or a name; left out, it is what the machine was
// seen with.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	q, err := s.question(v)
	if err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	if v.Get("all") != "" {
		s.explainAll(w, r, q)
		return
	}
	one, err := Machine(q.desired, v.Get("machine"), q.query, s.Nodes, len(q.files) > 0)
	if err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	if one.Generation == 0 {
		one.Generation = s.Engine.Pinned(one.MAC) // 0: it is not suspended
	}
	if n, ok := s.Nodes.Node(one.MAC); ok && q.arch == nil {
		q.arch = n.Arch
	}
	reply(w, s.walk(one, q, foreign(q.desired, one)))
}

func (s *Server) question(v url.Values) (question, error) {
	q := question{query: provider.Query{Class: v.Get("class")}, files: v["file"]}
	if text := v.Get("arch"); text != "" {
		arch, err := explain.ParseArch(text)
		if err != nil {
			return q, err
		}
		q.arch = &arch
	}
	if g := v.Get("generation"); g != "" {
		var err error
		if q.query.Generation, err = strconv.ParseUint(g, 10, 64); err != nil {
			return q, fmt.Errorf("generation %q: want a number", g)
		}
	}
	if v.Get("all") != "" && (v.Get("machine") != "" || q.query.Generation != 0) {
		return q, errors.New("all is every machine of the generation that is served: name no machine and no generation beside it")
	}
	if slices.Contains(q.files, "") {
		return q, errors.New("file: want the name of a boot file")
	}
	if q.desired = s.Engine.Desired(); q.desired == nil {
		return q, errors.New("nothing is applied yet: no machine gets an answer")
	}
	return q, nil
}

// walk follows one boot.
func (s *Server) walk(one provider.Query, q question, foreign bool) explain.Result {
	if q.arch != nil {
		one.Arch = *q.arch
	}
	files := q.files
	if foreign && len(files) == 0 {
		files = explain.Foreign(s.Engine.Answer, one)
	}
	if len(files) == 0 {
		return explain.Walk(s.Engine.Answer, one)
	}
	one.File = files[0]
	return explain.Walk(s.Engine.Answer, one, files[1:]...)
}

// explainAll streams a line for each machine. When another generation is published
// meanwhile, the last line is a Problem: the answers would not belong together.
func (s *Server) explainAll(w http.ResponseWriter, r *http.Request, q question) {
	gen := s.Engine.Generation()
	q.desired, q.query.Generation = s.Engine.Desired(), gen
	seen := map[provider.MAC]*uint16{}
	for _, n := range s.Nodes.Nodes() {
		seen[n.MAC] = n.Arch
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(w, 256<<10)
	defer out.Flush()
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for _, m := range explain.Machines(q.desired) {
		if r.Context().Err() != nil {
			return
		}
		one := q
		if one.arch == nil {
			one.arch = seen[m.Query.MAC]
		}
		m.Query.Class, m.Query.Generation = q.query.Class, gen
		if pinned := s.Engine.Pinned(m.Query.MAC); pinned != 0 {
			m.Query.Generation = pinned // it is suspended
		}
		if !m.Foreign {
			one.files = nil
			m.Query.Address = netip.Addr{} // whether it gets the reserved one, DHCP says
		}
		res := s.walk(m.Query, one, m.Foreign)
		var line any = res
		now := s.Engine.Generation()
		if now != gen {
			line = Problem{Error: fmt.Sprintf("generation %d is served now, and these are answers of %d: ask again", now, gen)}
		}
		if enc.Encode(line) != nil || now != gen {
			return
		}
	}
}

// foreign reports whether the machine's DHCP server is not ours.
func foreign(d *schema.Desired, q provider.Query) bool {
	for _, s := range d.Subnets {
		if s.Addr != q.Subnet {
			continue
		}
		for _, server := range d.Servers {
			if server.Addr == s.Server {
				return server.DHCP.Disabled
			}
		}
	}
	return false
}

// Machine completes q with the machine that text names: a MAC, a host's name or
// address in the configuration, or an IP address: of a reservation, a lease, an
// attached root, or on a subnet whose addresses somebody else gives out; with foreign,
// on any.
func Machine(d *schema.Desired, text string, q provider.Query, clients provider.Clients, foreign bool) (provider.Query, error) {
	if text == "" {
		return q, errors.New("name a machine: a MAC, a host, or an address")
	}
	if mac, err := provider.ParseMAC(text); err == nil {
		q.MAC = mac
		for _, h := range d.Hosts {
			if h.MAC == mac.String() {
				return host(d, h, q)
			}
		}
		if addr, ok := mac.Address(); ok {
			return byAddress(d, addr, q, clients, foreign)
		}
		q.Subnet = onlySubnet(d)
		return q, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return byAddress(d, addr.Unmap(), q, clients, foreign)
	}
	var named []*schema.Host
	for _, h := range d.Hosts {
		if h.Addr.String() == text {
			return host(d, h, q)
		}
		if h.Hostname == text || (h.Addr.Key == "" && h.Addr.Name == text) || h.Addr.Key == text {
			named = append(named, h)
		}
	}
	switch len(named) {
	case 0:
	case 1:
		return host(d, named[0], q)
	default: // modules that are made of one folder have hosts of the same names
		return q, fmt.Errorf("%d hosts are called %q, among them %s and %s: name one by its address, or by its MAC", len(named), text, named[0].Addr, named[1].Addr)
	}
	return q, fmt.Errorf("no host is called %q, and it is neither a MAC nor an address", text)
}

func byAddress(d *schema.Desired, addr netip.Addr, q provider.Query, clients provider.Clients, anywhere bool) (provider.Query, error) {
	for _, h := range d.Hosts {
		if h.Address == addr {
			return host(d, h, q)
		}
	}
	if clients != nil {
		if c, ok := clients.ByAddr(addr); ok {
			q.MAC, q.Host, q.Subnet, q.Address = c.MAC, c.Host, c.Subnet, addr
			if q.Subnet.IsZero() {
				q.Subnet = subnetOf(d, addr)
			}
			return q, nil
		}
	}
	if q.Subnet = subnetOf(d, addr); !q.Subnet.IsZero() && (anywhere || proxied(d, q) || foreign(d, q)) {
		q.MAC, q.Address = provider.AddressMAC(addr), addr
		return q, nil
	}
	return q, fmt.Errorf("no machine has the address %s: neither a reservation nor a lease", addr)
}

// subnetOf gives the subnet that an address is in, or the zero Addr.
func subnetOf(d *schema.Desired, addr netip.Addr) schema.Addr {
	for _, s := range d.Subnets {
		if s.CIDR.Contains(addr) {
			return s.Addr
		}
	}
	return schema.Addr{}
}

// proxied reports whether somebody else gives out the addresses of the machine's
// subnet, and our server names the files.
func proxied(d *schema.Desired, q provider.Query) bool {
	return slices.ContainsFunc(d.Subnets, func(s *schema.Subnet) bool { return s.Addr == q.Subnet && s.Mode == schema.ModeProxy })
}

// onlySubnet gives the subnet if there is one only, else the zero Addr.
func onlySubnet(d *schema.Desired) schema.Addr {
	if len(d.Subnets) == 1 {
		return d.Subnets[0].Addr
	}
	return schema.Addr{}
}

func host(d *schema.Desired, h *schema.Host, q provider.Query) (provider.Query, error) {
	mac, err := provider.ParseMAC(h.MAC)
	if err != nil {
		return q, err
	}
	q.MAC, q.Host, q.Subnet = mac, h.Addr, h.Subnet
	if q.Subnet.IsZero() {
		q.Subnet = onlySubnet(d)
	}
	if foreign(d, q) {
		q.Address = h.Address
	}
	return q, nil
}
