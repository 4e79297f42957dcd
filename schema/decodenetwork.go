package schema

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// defaultLease is long enough to make no noise and short enough that a changed
// option reaches everybody within the hour.
const defaultLease = time.Hour

func (l *loader) subnet(it *item) {
	s := &Subnet{
		Server: it.server(),
		CIDR:   read(it, "cidr", netip.Prefix{}, parseNetwork, func(p netip.Prefix) any { return showPrefix(p) }),

		Authoritative:     it.boolean("authoritative", false),
		BOOTP:             it.boolean("bootp", false),
		Routers:           it.addresses("routers"),
		DomainNameServers: it.addresses("domain_name_servers"),
		DomainName:        it.text("domain_name", "", checkHostname),
		NTPServers:        it.addresses("ntp_servers"),
		InterfaceMTU:      it.mtu(),
		NextServer:        it.address("next_server", netip.Addr{}),
		LeaseTime:         read(it, "lease_time", defaultLease, parseLease, formatDuration),
		Boot:              it.ref("boot", "bootloader"),
		BootFileName:      it.bootFiles(),

		RouterAdvertisement: it.boolean("router_advertisement", true),
	}
	it.needed("cidr")
	for _, sub := range it.nested("pool") {
		s.Pools = append(s.Pools, sub.pool())
	}
	if it.made.failed {
		return
	}
	s.Meta = it.meta()
	l.out.Subnets = append(l.out.Subnets, s)
}

func showPrefix(p netip.Prefix) any {
	if !p.IsValid() {
		return nil
	}
	return p.String()
}

// mtu reads option 26, whose smallest value RFC 2132 section 5.1 says.
func (it *item) mtu() int {
	if it.body.attrs["interface_mtu"] == nil {
		return 0
	}
	return it.integer("interface_mtu", 0, 68, 65535)
}

// bootFiles reads file names by client architecture, RFC 4578 section 2.1.
func (it *item) bootFiles() map[uint16]string {
	const name = "boot_file_name"
	v, secret, ok := it.value(name)
	if !ok {
		return nil
	}
	at := it.expression(name).Range()
	if v, ok = it.convert(name, at, v, cty.Map(cty.String), `a map of text, such as { "7" = "ipxe.efi" }`); !ok {
		return nil
	}
	out, texts := map[uint16]string{}, map[string]string{}
	files := v.AsValueMap()
	for _, key := range slices.Sorted(maps.Keys(files)) {
		n, err := strconv.ParseUint(key, 10, 16)
		if err != nil || strconv.FormatUint(n, 10) != key {
			it.fail(at, fmt.Sprintf("Invalid client architecture %s in boot_file_name", shown(key, secret)), `It is the number that the client sends in option 93: "0" for BIOS, "7" for 64-bit UEFI.`)
			continue
		}
		if files[key].IsNull() {
			continue
		}
		file := files[key].AsString()
		if err := checkBootFile(file); err != nil {
			it.fail(at, fmt.Sprintf("Invalid boot file name %s", shown(file, secret)), err.Error())
			continue
		}
		out[uint16(n)], texts[key] = file, file
	}
	it.record(name, texts, secret)
	return out
}

func (it *item) pool() Pool {
	p := Pool{Range: rangeOf(it.at)}
	parse := func(s string) (Pool, error) {
		from, to, ok := strings.Cut(s, "-")
		a, err := parseIPv4(strings.TrimSpace(from))
		b, err2 := parseIPv4(strings.TrimSpace(to))
		if !ok || err != nil || err2 != nil {
			return p, fmt.Errorf("A range is two IPv4 addresses with a hyphen between them: 10.0.0.100-10.0.0.199.")
		}
		if b.Less(a) {
			return p, fmt.Errorf("The range ends before it begins.")
		}
		return Pool{Range: p.Range, From: a, To: b}, nil
	}
	p = read(it, "range", p, parse, func(p Pool) any {
		if !p.From.IsValid() {
			return nil
		}
		return p.From.String() + "-" + p.To.String()
	})
	it.needed("range")
	return p
}

func (l *loader) host(it *item) {
	name := it.made.addr.Name
	if it.made.addr.Key != "" {
		name = it.made.addr.Key
	}
	h := &Host{
		MAC:      read(it, "mac", "", parseMAC, plain),
		Address:  it.address("address", netip.Addr{}),
		Hostname: it.text("hostname", name, checkHostname),
		Entry:    it.ref("entry", "entry"),
		Boot:     it.ref("boot", "bootloader"),
		Args:     it.texts("args", nil, checkArg),
	}
	it.needed("mac")
	if h.Hostname == name && !it.made.failed {
		if err := checkHostname(name); err != nil {
			it.fail(it.at, fmt.Sprintf("%q is no host name", name), "Without hostname, the machine is called after its block or key. Write hostname = …. "+err.Error())
		}
	}
	if it.made.failed {
		return
	}
	h.Meta = it.meta()
	l.out.Hosts = append(l.out.Hosts, h)
}
