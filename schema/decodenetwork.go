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
		Mode:   SubnetMode(it.text("mode", string(ModeServer), oneOf([]string{string(ModeServer), string(ModeProxy)}))),
		CIDR:   read(it, "cidr", netip.Prefix{}, parseNetwork, func(p netip.Prefix) any { return showPrefix(p) }),

		NextServer:   it.address("next_server", netip.Addr{}),
		LeaseTime:    defaultLease,
		Boot:         it.loaders("boot", true),
		BootFileName: it.bootFiles(),

		RouterAdvertisement: it.boolean("router_advertisement", true),
	}
	it.needed("cidr")
	if s.Mode == ModeProxy {
		it.noLeases()
	} else {
		it.leases(s)
	}
	it.public()
	if it.made.failed {
		return
	}
	s.Meta = it.meta()
	l.out.Subnets = append(l.out.Subnets, s)
}

// leases reads what comes with an address.
func (it *item) leases(s *Subnet) {
	s.Authoritative = it.boolean("authoritative", false)
	s.BOOTP = it.boolean("bootp", false)
	s.Routers = it.addresses("routers")
	s.DomainNameServers = it.addresses("domain_name_servers")
	s.DomainName = it.text("domain_name", "", checkDomain)
	s.NTPServers = it.addresses("ntp_servers")
	s.InterfaceMTU = it.mtu()
	s.LeaseTime = read(it, "lease_time", defaultLease, parseLease, formatDuration)
	for _, sub := range it.nested("pool") {
		s.Pools = append(s.Pools, sub.pool())
	}
}

// noLeases refuses, in a subnet whose addresses another DHCP server gives out, what
// is sent with an address only. What is written there that means "nothing" may stay,
// so that mode can come from a variable.
func (it *item) noLeases() {
	const other = "Addresses, and what is sent with them, come from the other DHCP server: say it there. Take the line away."
	for attr, why := range map[string]string{
		"authoritative": "Only who gives out addresses knows which ones are wrong: that is the other DHCP server. Take the line away.",
		"bootp":         "A client that speaks BOOTP asks for an address, and that comes from the other DHCP server. Take the line away.",
		"routers":       other, "domain_name_servers": other, "domain_name": other, "ntp_servers": other, "interface_mtu": other, "lease_time": other,
	} {
		if v, _, written := it.value(attr); written && !meansNothing(v) {
			it.fail(it.place(attr), fmt.Sprintf("A proxied subnet has no %s", attr), why)
		}
	}
	for _, sub := range it.nested("pool") {
		it.fail(sub.at, "A proxied subnet has no pool", `The addresses come from the other server. Take the block away, or give out addresses here with mode = "server" and switch the other server off.`)
	}
}

// meansNothing reports whether a value says what leaving the attribute out says.
func meansNothing(v cty.Value) bool {
	switch ty := v.Type(); {
	case ty == cty.Bool:
		return v.False()
	case ty.IsTupleType() || ty.IsListType() || ty.IsSetType():
		return v.LengthInt() == 0
	}
	return false
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
