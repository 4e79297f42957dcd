package schema

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// check finds the mistakes that show only when blocks are seen beside each other.
// Resources that failed on their own are not looked at again.
func (l *loader) check() {
	l.nfsListeners()
	l.checkSockets()
	l.checkExports()
	l.checkWire()
	l.checkBoot()
	subnets := l.checkSubnets()
	l.checkHosts(subnets)
	l.checkMachines()
}

// byAddr indexes resources.
func byAddr[T any](all []T, addr func(T) Addr) map[Addr]T {
	out := make(map[Addr]T, len(all))
	for _, r := range all {
		out[addr(r)] = r
	}
	return out
}

// checkSockets refuses two listeners that would bind the same socket.
func (l *loader) checkSockets() {
	transport := map[string]string{"dhcp": "udp", "tftp": "udp", "http": "tcp", "nbd": "tcp", "nfs": "tcp"}
	type socket struct {
		server   *Server
		protocol string
		at       netip.AddrPort
	}
	type place struct {
		transport string
		at        netip.AddrPort // with the address of the machine, or of the socket
	}
	onMachine := map[place][]socket{} // by the machine's address and the port
	first := map[place]socket{}       // by the socket itself
	for _, s := range l.out.Servers {
		for _, p := range standardPorts {
			ln := s.listener(p.protocol)
			if ln.Disabled {
				continue
			}
			me := socket{s, p.protocol, ln.Listen}
			machine := place{transport[p.protocol], netip.AddrPortFrom(s.Address, me.at.Port())}
			here := place{transport[p.protocol], me.at}
			// "All addresses" meets another address only on one machine.
			other, meets := first[here]
			meets = meets && !me.at.Addr().IsUnspecified()
			for _, o := range onMachine[machine] {
				if meets {
					break
				}
				other, meets = o, me.at == o.at || me.at.Addr().IsUnspecified() || o.at.Addr().IsUnspecified()
			}
			if meets {
				l.wrong(s.Addr, p.protocol+".listen", fmt.Sprintf("Two listeners on %s port %d", transport[p.protocol], me.at.Port()),
					fmt.Sprintf("%s of %s listens on %s, and so does %s of %s on %s. Change one with %s { listen = \":port\" }, or switch it off with enabled = false.",
						strings.ToUpper(other.protocol), other.server.Addr, other.at, strings.ToUpper(p.protocol), s.Addr, me.at, p.protocol))
				continue
			}
			onMachine[machine], first[here] = append(onMachine[machine], me), me
		}
	}
}

// checkBoot checks that what is booted fits together.
func (l *loader) checkBoot() {
	exports := byAddr(l.out.Exports, func(e *Export) Addr { return e.Addr })
	for _, e := range l.out.Entries {
		if x := exports[e.Root]; x != nil && x.Image != e.Image {
			l.wrong(e.Addr, "root", "Kernel and root of different images", fmt.Sprintf("%s takes its kernel from %s, but %s serves %s. A kernel needs the modules of its own image.", e.Addr, e.Image, x.Addr, x.Image))
		}
		l.checkSquash(e, exports[e.Root])
		l.checkTLS(e, exports[e.Root])
	}
}

// checkSquash refuses a root on which root is nobody.
func (l *loader) checkSquash(e *Entry, x *Export) {
	if x == nil || x.Addr.Type != NFS || slices.Contains(x.Options, "no_root_squash") {
		return
	}
	l.wrong(e.Addr, "root", fmt.Sprintf("Root is nobody on %s", x.Addr), fmt.Sprintf(
		"%s takes root for nobody, as NFS does unless it is told otherwise, and so no program of a machine that has its root there could read what is root's alone, such as /etc/shadow. Write options = [\"no_root_squash\"] in it.", x.Addr))
}

// checkTLS refuses a root that no machine could attach: what an initramfs attaches it
// with has no certificates, and no place to keep a key.
func (l *loader) checkTLS(e *Entry, x *Export) {
	if x == nil || x.TLS != TLSRequired {
		return
	}
	l.wrong(e.Addr, "root", fmt.Sprintf("No machine could boot from %s", x.Addr), fmt.Sprintf(
		"%s is served over TLS only (%s), and initramfs images attach their root without: they have no authority to check the server by, and nowhere to keep a key. "+
			"Take tls away there, or make another export of %s for those who read it over TLS.", x.Addr, x.At("tls"), x.Image))
}
