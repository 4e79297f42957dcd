package schema

import (
	"fmt"
	"net/netip"
)

func (l *loader) group(it *item) {
	g := &Group{
		Entry:    it.ref("entry", "entry"),
		Boot:     it.loaders("boot", false),
		Args:     it.exposedTexts("args", onKernelLine, checkArg),
		Settings: it.settings(),
	}
	if it.made.failed {
		return
	}
	g.Meta = it.meta()
	l.out.Groups = append(l.out.Groups, g)
}

func (l *loader) host(it *item) {
	name := it.made.addr.Name
	if it.made.addr.Key != "" {
		name = it.made.addr.Key
	}
	h := &Host{
		MAC:      read(it, "mac", "", parseMAC, plain),
		Address:  it.address("address", netip.Addr{}),
		Hostname: it.exposedText("hostname", inAnswers, name, checkHostname),
		Group:    it.ref("group", "group"),
		Entry:    it.ref("entry", "entry"),
		Boot:     it.loaders("boot", false),
		Args:     it.exposedTexts("args", onKernelLine, checkArg),
		Settings: it.settings(),
	}
	it.needed("mac")
	it.public("mac", "address")
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

// loaders reads one bootloader, or a list of them in order of preference. One is
// recorded the same way in either form. An empty list is a mistake where it would
// be taken for "none" and mean "what the block above says".
func (it *item) loaders(name string, none bool) []Addr {
	v, secret, ok := it.value(name)
	if !ok {
		return nil
	}
	var out []Addr
	if ty := v.Type(); ty.IsTupleType() || ty.IsListType() || ty.IsSetType() {
		fine := it.fine(func() { out = it.references(name, v, secret, true, "bootloader") })
		if fine && len(out) == 0 && !none {
			it.fail(it.place(name), fmt.Sprintf("%s%s is an empty list", it.prefix, name), "Leave it out to boot by what the group or the subnet says. There is no way to say that a machine must not boot.")
		}
	} else if a, ok := it.target(name, it.expression(name).Range(), v, secret, []string{"bootloader"}); ok {
		out = []Addr{a}
	}
	switch len(out) {
	case 0:
	case 1:
		it.record(name, out[0].String(), secret)
	default:
		it.record(name, addrTexts(out), secret)
	}
	return out
}
