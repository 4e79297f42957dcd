package schema

import (
	"fmt"
	"slices"
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
	booters := map[Addr][]string{} // by export: who else may boot from it
	for _, h := range w.out.Hosts {
		way, known := w.way(h)
		if !known {
			continue
		}
		boot := way.Boot
		switch s := w.subnets[h.Subnet]; {
		case len(boot) > 0:
		case !h.Address.IsValid():
			boot = anywhere
		case s != nil:
			boot = s.Boot
		}
		for _, root := range w.mayRoot(boot, way.Entry) {
			if owner, limited := owners[root]; limited && owner != h.Addr {
				booters[root] = append(booters[root], h.Addr.String())
			}
		}
	}
	for _, s := range w.out.Subnets {
		if !w.out.Open(s) {
			continue
		}
		for _, root := range w.mayRoot(s.Boot, Addr{}) {
			if _, limited := owners[root]; limited {
				booters[root] = append(booters[root], fmt.Sprintf("any machine on %s that has no host block", s.Addr))
			}
		}
	}
	for a, who := range booters {
		slices.Sort(who)
		more := ""
		if n := len(who) - 3; n > 0 {
			who, more = who[:3], fmt.Sprintf(" and %d more", n)
		}
		w.wrong(a, "mode", fmt.Sprintf("More than one host boots from %s", a), fmt.Sprintf(
			"It can be written to and is for %s, but %s%s would boot an entry that has it for a root. %s Give the one host an entry, or a bootloader, of its own, and name that in its block only; or write mode = %q.",
			owners[a], strings.Join(who, ", "), more, oneMachine, CopyOnWrite))
	}
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

// mayRoot gives the exports that a machine with these bootloaders may have for a root:
// entry is the one that it names, or zero; what a menu offers counts.
func (w *ways) mayRoot(boot []Addr, entry Addr) []Addr {
	var roots []Addr
	for _, a := range boot {
		b := w.loaders[a]
		if b == nil {
			continue
		}
		for _, a := range menu(b, entry) {
			if e := w.entries[a]; e != nil && !slices.Contains(roots, e.Root) {
				roots = append(roots, e.Root)
			}
		}
	}
	return roots
}
