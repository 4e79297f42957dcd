package plan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	recipe1   = "sha256:3f2a9c1d7e08000000000000000000000000000000000000000000000000aaaa"
	recipe2   = "sha256:91bc00112233000000000000000000000000000000000000000000000000bbbb"
	artifact1 = "sha256:77aabbccddee000000000000000000000000000000000000000000000000cccc"
	artifact2 = "sha256:88ffeeddccbb000000000000000000000000000000000000000000000000dddd"
)

func addr(s string) schema.Addr {
	a, err := schema.ParseAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

// hostSpec is one host of a site.
type hostSpec struct {
	name, mac, address string
	args               []string
}

// site is a small desired state that tests edit.
type site struct {
	recipe  string
	size    string
	mode    schema.ExportMode
	keep    schema.Keep
	allow   []string
	args    []string
	pool    [2]string
	dns     string
	nbdPort uint16
	hosts   []hostSpec
	secret  string
}

func newSite(change ...func(*site)) *schema.Desired {
	s := &site{
		recipe: recipe1, size: "2GiB", mode: schema.CopyOnWrite, pool: [2]string{"10.0.0.128", "10.0.0.254"}, dns: "10.0.0.1", nbdPort: 10809,
		hosts: []hostSpec{
			{"render01", "52:54:00:00:00:01", "10.0.0.21", nil},
			{"render02", "52:54:00:00:00:02", "10.0.0.22", nil},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s.desired()
}

func (s *site) desired() *schema.Desired {
	d := &schema.Desired{}
	line := 0
	add := func(a schema.Addr, attrs map[string]any) schema.Meta {
		line += 10
		r := schema.Range{File: "site.hcl", Line: line, Column: 1}
		res := schema.Resource{Addr: a, Range: r}
		for name, v := range attrs {
			b, err := json.Marshal(v)
			if err != nil {
				panic(err)
			}
			res.Attrs = append(res.Attrs, schema.Attr{Name: name, Value: string(b), Sensitive: strings.HasPrefix(name, "secret")})
		}
		slices.SortFunc(res.Attrs, func(a, b schema.Attr) int { return strings.Compare(a.Name, b.Name) })
		d.Resources = append(d.Resources, res)
		return schema.Meta{Addr: a, Range: r}
	}
	server, image, export := addr("server.main"), addr("image.arch"), addr("export.nbd.arch")
	entry, menu, lan := addr("entry.arch"), addr("bootloader.ipxe.menu"), addr("subnet.lan")
	ip := netip.MustParseAddr("10.0.0.1")

	d.Servers = []*schema.Server{{Meta: add(server, map[string]any{"address": "10.0.0.1", "nbd.listen": fmt.Sprintf(":%d", s.nbdPort)}),
		Address: ip, NBD: schema.Listener{Listen: netip.AddrPortFrom(ip, s.nbdPort)}}}
	attrs := map[string]any{"filesystem.size": s.size, "mask": []string{}}
	if s.secret != "" {
		attrs["secret"] = s.secret
	}
	d.Images = []*schema.Image{{Meta: add(image, attrs), Recipe: s.recipe}}
	x := &schema.Export{Meta: add(export, map[string]any{"image": image.String(), "mode": s.mode, "keep": s.keep, "allow": s.allow}), Server: server, Image: image, Mode: s.mode, Keep: s.keep}
	for _, a := range s.allow {
		x.Allow = append(x.Allow, addr(a))
	}
	d.Exports = []*schema.Export{x}
	d.Entries = []*schema.Entry{{Meta: add(entry, map[string]any{"args": s.args, "image": image.String()}), Image: image, Root: export, Args: s.args}}
	d.Bootloaders = []*schema.Bootloader{{Meta: add(menu, map[string]any{"entries": []string{"entry.arch"}}), Entries: []schema.Addr{entry}}}
	d.Subnets = []*schema.Subnet{{
		Meta:   add(lan, map[string]any{"cidr": "10.0.0.0/24", "boot": menu.String(), "domain_name_servers": s.dns, "pool[0].range": s.pool[0] + "-" + s.pool[1]}),
		Server: server, CIDR: netip.MustParsePrefix("10.0.0.0/24"), Boot: []schema.Addr{menu},
		Pools: []schema.Pool{{From: netip.MustParseAddr(s.pool[0]), To: netip.MustParseAddr(s.pool[1])}},
	}}
	for _, h := range s.hosts {
		a := schema.Addr{Kind: "host", Name: h.name}
		host := &schema.Host{Meta: add(a, map[string]any{"mac": h.mac, "address": h.address, "args": h.args}), MAC: h.mac, Args: h.args}
		if h.address != "" {
			host.Address, host.Subnet = netip.MustParseAddr(h.address), lan
		}
		d.Hosts = append(d.Hosts, host)
	}
	slices.SortFunc(d.Resources, func(a, b schema.Resource) int { return a.Addr.Compare(b.Addr) })
	return d
}

// compute plans from the plain site on generation 3 to an edited one.
func compute(t *testing.T, obs []Observation, change ...func(*site)) *Plan {
	t.Helper()
	rev := "abc"
	return Compute(Input{
		Revision: &rev, Want: newSite(change...), Observations: obs,
		Applied: &Applied{Generation: 3, Revision: "old", Desired: newSite(), Artifacts: map[string]string{recipe1: artifact1}},
		Built:   map[string]string{recipe1: artifact1},
	})
}

func rendered(t *testing.T, p *Plan) string {
	t.Helper()
	var b strings.Builder
	if err := p.Text(&b, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// heads are the addresses of a plan with action and reason.
func heads(p *Plan) []string {
	list := []string{}
	for _, c := range p.Changes {
		list = append(list, fmt.Sprintf("%s %s %s", c.Address, c.Action, c.Reason))
	}
	return list
}

func change(t *testing.T, p *Plan, a string) Change {
	t.Helper()
	for _, c := range p.Changes {
		if c.Address == addr(a) {
			return c
		}
	}
	t.Fatalf("the plan does not change %s: %q", a, heads(p))
	return Change{}
}

func up(name, mac, artifact string) Observation {
	o := Observation{Kind: SawNode, MAC: mac, Address: "10.0.0.21", Subnet: addr("subnet.lan"), Generation: 3, Image: addr("image.arch"),
		Export: "arch@" + short(artifact), Artifact: artifact, State: "up"}
	if name != "" {
		o.Host = addr(name)
	}
	return o
}
