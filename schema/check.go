package schema

import (
	"fmt"
	"net/netip"
	"strings"
)

// check finds the mistakes that show only when blocks are seen beside each other.
// Resources that failed on their own are not looked at again.
func (l *loader) check() {
	l.checkSockets()
	l.checkBoot()
	subnets := l.checkSubnets()
	l.checkHosts(subnets)
	l.checkKernelLines()
}

// byAddr indexes resources.
func byAddr[T any](all []T, addr func(T) Addr) map[Addr]T {
	out := make(map[Addr]T, len(all))
	for _, r := range all {
		out[addr(r)] = r
	}
	return out
}

// checkSockets refuses two listeners that would bind the same socket, and exports on
// a server that has no NBD.
func (l *loader) checkSockets() {
	transport := map[string]string{"dhcp": "udp", "tftp": "udp", "http": "tcp", "nbd": "tcp"}
	type socket struct {
		server   *Server
		protocol string
		at       netip.AddrPort
	}
	seen := map[string][]socket{} // by transport and port
	for _, s := range l.out.Servers {
		for _, p := range standardPorts {
			ln := s.listener(p.protocol)
			if ln.Disabled {
				continue
			}
			me := socket{s, p.protocol, ln.Listen}
			key := fmt.Sprint(transport[p.protocol], ln.Listen.Port())
			for _, other := range seen[key] {
				// "All addresses" meets another address only on one machine.
				wild := (me.at.Addr().IsUnspecified() || other.at.Addr().IsUnspecified()) &&
					(other.server == s || other.server.Address == s.Address)
				if me.at != other.at && !wild || me.at == other.at && me.at.Addr().IsUnspecified() && !wild {
					continue
				}
				l.wrong(s.Addr, p.protocol+".listen", fmt.Sprintf("Two listeners on %s port %d", transport[p.protocol], me.at.Port()),
					fmt.Sprintf("%s of %s listens on %s, and so does %s of %s on %s. Change one with %s { listen = \":port\" }, or switch it off with enabled = false.",
						strings.ToUpper(other.protocol), other.server.Addr, other.at, strings.ToUpper(p.protocol), s.Addr, me.at, p.protocol))
				break
			}
			seen[key] = append(seen[key], me)
		}
	}
	servers := byAddr(l.out.Servers, func(s *Server) Addr { return s.Addr })
	for _, e := range l.out.Exports {
		if s := servers[e.Server]; s != nil && s.NBD.Disabled {
			l.wrong(e.Addr, "server", fmt.Sprintf("%s is on a server without NBD", e.Addr), fmt.Sprintf("%s says nbd { enabled = false }. Enable it, or take the export away.", s.Addr))
		}
	}
}

// checkBoot checks that what is booted fits together.
func (l *loader) checkBoot() {
	images := byAddr(l.out.Images, func(i *Image) Addr { return i.Addr })
	exports := byAddr(l.out.Exports, func(e *Export) Addr { return e.Addr })
	for _, e := range l.out.Exports {
		if img := images[e.Image]; img != nil && img.Filesystem.Type == "squashfs" && e.Mode == CopyOnWrite {
			l.wrong(e.Addr, "mode", "squashfs cannot be written to", fmt.Sprintf("%s is a squashfs, which has no writes that a copy could take. Write mode = %q: machines then keep their changes in memory. Or use ext4.", img.Addr, ReadOnly))
		}
	}
	for _, e := range l.out.Entries {
		if x := exports[e.Root]; x != nil && x.Image != e.Image {
			l.wrong(e.Addr, "root", "Kernel and root of different images", fmt.Sprintf("%s takes its kernel from %s, but %s serves %s. A kernel needs the modules of its own image.", e.Addr, e.Image, x.Addr, x.Image))
		}
	}
}

// checkKernelLines checks the arguments of every entry, and of every host together
// with what it boots.
func (l *loader) checkKernelLines() {
	entries := byAddr(l.out.Entries, func(e *Entry) Addr { return e.Addr })
	loaders := byAddr(l.out.Bootloaders, func(b *Bootloader) Addr { return b.Addr })
	subnets := byAddr(l.out.Subnets, func(s *Subnet) Addr { return s.Addr })
	why := fmt.Sprintf("A kernel line has room for %d bytes of arguments; loaders cut off what is longer, some without a word.", maxKernelArgs)
	for _, e := range l.out.Entries {
		if n := argBytes(e.Args); n > maxKernelArgs {
			l.wrong(e.Addr, "args", fmt.Sprintf("The kernel arguments have %d bytes", n), why)
		}
	}
	longest := map[Addr]int{} // by bootloader: a machine may boot any of its entries
	for _, b := range l.out.Bootloaders {
		for _, a := range b.Entries {
			if e := entries[a]; e != nil {
				longest[b.Addr] = max(longest[b.Addr], argBytes(e.Args))
			}
		}
	}
	for _, h := range l.out.Hosts {
		own := argBytes(h.Args)
		if own == 0 {
			continue
		}
		boot := h.Boot
		if s := subnets[h.Subnet]; boot.IsZero() && s != nil {
			boot = s.Boot
		}
		n := 0
		if b := loaders[boot]; b != nil {
			n = longest[b.Addr]
		}
		if e := entries[h.Entry]; e != nil {
			n = max(n, argBytes(e.Args))
		}
		if own+n > maxKernelArgs {
			l.wrong(h.Addr, "args", fmt.Sprintf("The kernel arguments have %d bytes", own+n), "They are those of the entry and of the host. "+why)
		}
	}
}

// argBytes counts arguments with the spaces before them.
func argBytes(args []string) int {
	n := 0
	for _, a := range args {
		n += 1 + len(a)
	}
	return n
}
