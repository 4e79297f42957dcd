package schema

import "fmt"

// room is what entries need of a kernel line.
type room struct {
	args int // the arguments
	all  int // the arguments, and the options of the root
}

// checkKernelLines checks the arguments of every entry, and of every group and host
// together with what they boot.
func (w *ways) checkKernelLines() {
	why := fmt.Sprintf("A kernel line has room for %d bytes of arguments; loaders cut off what is longer, some without a word.", maxKernelArgs)
	for _, e := range w.out.Entries {
		if n := needs(e).all; n > maxKernelArgs {
			w.wrong(e.Addr, "args", fmt.Sprintf("The kernel arguments have %d bytes", n), why)
		}
	}
	longest := map[Addr]room{} // by bootloader: a machine may boot any of its entries
	for _, b := range w.out.Bootloaders {
		r := room{}
		for _, a := range b.Entries {
			if e := w.entries[a]; e != nil {
				r = r.max(needs(e))
			}
		}
		longest[b.Addr] = r
	}
	told := map[Addr]bool{}
	for _, g := range w.out.Groups {
		own, root := argBytes(g.Args), rootBytes(g.Mounts)
		r := room{}
		for _, a := range g.Boot {
			r = r.max(longest[a])
		}
		if e := w.entries[g.Entry]; e != nil {
			r = r.max(needs(e))
		}
		if n := r.with(own, root); own+root > 0 && n > maxKernelArgs {
			told[g.Addr] = true
			w.wrong(g.Addr, "args", fmt.Sprintf("The kernel arguments have %d bytes", n), "They are those of the entry and of the group. "+why)
		}
	}
	for _, h := range w.out.Hosts {
		way, known := w.way(h)
		own, root := argBytes(way.Args), rootBytes(h.Mounts)
		if root == 0 && way.Group != nil {
			root = rootBytes(way.Group.Mounts)
		}
		if !known || own+root == 0 || told[h.Group] {
			continue
		}
		boot := way.Boot
		if s := w.subnets[h.Subnet]; len(boot) == 0 && s != nil {
			boot = s.Boot
		}
		r := room{}
		for _, a := range boot {
			r = r.max(longest[a])
		}
		if e := w.entries[way.Entry]; e != nil {
			r = r.max(needs(e))
		}
		n := r.with(own, root)
		if n <= maxKernelArgs {
			continue
		}
		parts := []string{"of the entry"}
		if way.Group != nil {
			parts = append(parts, "of the group")
		}
		w.wrong(h.Addr, "args", fmt.Sprintf("The kernel arguments have %d bytes", n), fmt.Sprintf("They are those %s. %s", listed(append(parts, "of the host"), "and"), why))
	}
}

func needs(e *Entry) room {
	n := argBytes(e.Args)
	return room{n, n + rootBytes(e.Mounts)}
}

func (r room) max(s room) room { return room{max(r.args, s.args), max(r.all, s.all)} }

// with gives the bytes of the line of a machine that adds arguments, and, unless root
// is 0, has options of the root of its own.
func (r room) with(own, root int) int {
	if root > 0 {
		return r.args + own + root
	}
	return r.all + own
}

// argBytes counts arguments with the spaces before them.
func argBytes(args []string) int {
	n := 0
	for _, a := range args {
		n += 1 + len(a)
	}
	return n
}

// rootBytes counts the options of the root: they become a word rootflags=….
func rootBytes(mounts []Mount) int {
	if len(mounts) == 0 || mounts[0].Path != "/" || len(mounts[0].Options) == 0 {
		return 0
	}
	return len(" rootflags=") - 1 + argBytes(mounts[0].Options)
}
