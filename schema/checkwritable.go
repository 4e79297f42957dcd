package schema

import (
	"fmt"
	"strings"
)

// oneMachine is why a device that can be written to belongs to one machine.
const oneMachine = "A file system on a block device is one machine's: two that write to it, each with a cache of its own, destroy it. " +
	"(nbd-server's copyonwrite = false gives every machine that device, and says nothing.)"

// checkReadWrite refuses NBD exports that can be written to and that more than one
// machine may get at: by the export's own list, or because more than one may boot an
// entry that has it for a root.
func (w *ways) checkReadWrite() {
	owners := map[Addr]Addr{} // by export: the one host
	for _, e := range w.out.Exports {
		if e.Addr.Type != NBD || e.Mode != ReadWrite {
			continue
		}
		if why := notOneHost(e); why != "" {
			w.wrong(e.Addr, "mode", fmt.Sprintf("%s can be written to by more than one host", e.Addr), fmt.Sprintf(
				"%s %s Write allow = [host.name] with the one host that it is for, or mode = %q, with which each machine writes to an overlay of its own.", why, oneMachine, CopyOnWrite))
			continue
		}
		owners[e.Addr] = e.Allow[0]
	}
	if len(owners) == 0 {
		return
	}
	var anywhere []Addr // of a host that may turn up on any subnet
	for _, s := range w.out.Subnets {
		if w.out.Open(s) {
			anywhere = append(anywhere, s.Boot...)
		}
	}
	others := map[Addr]*booters{} // by export: who else may boot from it
	offered := map[Addr][]Addr{}  // by bootloader: exports of one host that it offers by itself
	tell := func(boot []Addr, entry, host Addr, who string) {
		see := func(root Addr) {
			if owner, limited := owners[root]; limited && owner != host {
				if others[root] == nil {
					others[root] = &booters{}
				}
				others[root].add(who)
			}
		}
		if e := w.entries[entry]; e != nil && len(boot) > 0 {
			see(e.Root)
		}
		for _, a := range boot {
			b := w.loaders[a]
			if b == nil || b.Timeout == 0 && !entry.IsZero() {
				continue // it boots the entry, and shows no other
			}
			list, known := offered[a]
			if !known {
				list = w.limited(b, owners)
				offered[a] = list
			}
			for _, root := range list {
				see(root)
			}
		}
	}
	for _, h := range w.out.Hosts {
		way, known := w.way(h)
		if !known || len(others) > maxDiagnostics {
			continue // that many are told, and no more
		}
		boot := way.Boot
		switch s := w.subnets[h.Subnet]; {
		case len(boot) > 0:
		case !h.Address.IsValid():
			boot = anywhere
		case s != nil:
			boot = s.Boot
		}
		tell(boot, way.Entry, h.Addr, h.Addr.String())
	}
	for _, s := range w.out.Subnets {
		if w.out.Open(s) && len(others) <= maxDiagnostics {
			tell(s.Boot, Addr{}, Addr{}, fmt.Sprintf("any machine on %s that has no host block", s.Addr))
		}
	}
	for a, who := range others {
		w.wrong(a, "mode", fmt.Sprintf("More than one host boots from %s", a), fmt.Sprintf(
			"It can be written to and is for %s, but %s would boot an entry that has it for a root. %s Give the one host an entry, or a bootloader, of its own, and name that in its block only; or write mode = %q.",
			owners[a], who, oneMachine, CopyOnWrite))
	}
}

// booters are machines that may boot from an export: the first ones, and how many more.
type booters struct {
	first []string
	more  int
	last  string
}

// add adds a machine. One that is added several times is added so in a row.
func (b *booters) add(who string) {
	if who == b.last {
		return
	}
	b.last = who
	switch {
	case len(b.first) < 3:
		b.first = append(b.first, who)
	default:
		b.more++
	}
}

func (b *booters) String() string {
	if b.more == 0 {
		return listed(b.first, "and")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(b.first, ", "), b.more)
}

// notOneHost says why the list of an export lets more than one machine attach; ""
// when it does not.
func notOneHost(e *Export) string {
	if len(e.Allow) == 0 {
		return "Without allow, every machine that is known here may attach."
	}
	for _, a := range e.Allow {
		if a.Kind != "host" {
			return fmt.Sprintf("allow names %s, and with it every machine there.", a)
		}
	}
	if n := len(e.Allow); n > 1 {
		return fmt.Sprintf("allow names %d hosts.", n)
	}
	return ""
}

// limited gives those of exports that a bootloader offers to a machine that names no
// entry: the default's root, and where there is time to choose, that of every entry.
func (w *ways) limited(b *Bootloader, exports map[Addr]Addr) []Addr {
	seen := map[Addr]bool{}
	var roots []Addr
	for _, a := range menu(b, Addr{}) {
		e := w.entries[a]
		if e == nil || seen[e.Root] {
			continue
		}
		seen[e.Root] = true
		if _, is := exports[e.Root]; is {
			roots = append(roots, e.Root)
		}
	}
	return roots
}
