package schema

import (
	"fmt"
	"slices"
	"strings"
)

// checkReach refuses what cannot boot for a reason that the configuration shows: a
// bootloader whose protocols the server does not speak, and a kernel that no
// machine runs which the bootloader is made for. A machine that has another
// bootloader to boot by is left alone.
func (w *ways) checkReach() {
	for _, b := range w.out.Bootloaders {
		for _, a := range b.Entries {
			if why := w.cannotRun(b, w.entries[a]); why != "" {
				w.wrong(b.Addr, "entries", fmt.Sprintf("%s cannot boot %s", b.Addr, a), why)
			}
		}
	}
	for _, s := range w.out.Subnets {
		server := w.servers[s.Server]
		if server == nil || len(s.BootFileName) > 0 || s.NextServer != server.Address {
			continue // files that are named by hand may come from elsewhere
		}
		if why := w.unreachable(s.Boot, func(b *Bootloader) string { return silent(b, server) }); why != "" {
			w.wrong(s.Addr, "boot", fmt.Sprintf("Machines of %s cannot boot", s.Addr), why)
		}
	}
	told := map[Addr]bool{} // by block: one host of it stands for all
	tell := func(a Addr, attr, summary, why string) {
		if why != "" && !told[declared(a)] {
			told[declared(a)] = true
			w.wrong(a, attr, summary, why)
		}
	}
	for _, h := range w.out.Hosts {
		way, known := w.way(h)
		if !known {
			continue
		}
		whose := h.Addr // who says what it boots by
		if len(h.Boot) == 0 && way.Group != nil {
			whose = way.Group.Addr
		}
		tell(whose, "boot", fmt.Sprintf("%s cannot boot", h.Addr), w.unreachable(way.Boot, w.silenceFor(h)))

		boot := way.Boot
		if s := w.subnets[h.Subnet]; s != nil && len(boot) == 0 {
			boot = s.Boot
		}
		whose = h.Addr // who says what it boots
		if h.Entry.IsZero() && way.Group != nil {
			whose = way.Group.Addr
		}
		if e := w.entries[way.Entry]; e != nil {
			tell(whose, "entry", fmt.Sprintf("%s cannot boot %s", h.Addr, e.Addr), w.runsNowhere(boot, e))
		}
	}
}

// unreachable says why machines cannot load any of the bootloaders; "" when they can,
// or there is none. silence says it for one.
func (w *ways) unreachable(boot []Addr, silence func(*Bootloader) string) string {
	var whys []string
	for _, a := range boot {
		b := w.loaders[a]
		if b == nil {
			return ""
		}
		why := silence(b)
		if why == "" {
			return ""
		}
		if len(whys) < 3 && !slices.Contains(whys, why) {
			whys = append(whys, why)
		}
	}
	return strings.Join(whys, " ")
}

// silenceFor gives silent for the server that answers a host.
func (w *ways) silenceFor(h *Host) func(*Bootloader) string {
	if !h.Address.IsValid() {
		return w.silentEverywhere
	}
	return func(b *Bootloader) string {
		if s := w.subnets[h.Subnet]; s != nil && w.servers[s.Server] != nil {
			return silent(b, w.servers[s.Server])
		}
		return ""
	}
}

// silentEverywhere says why no server says what the machines of a bootloader ask; ""
// when one does, or there is none.
func (w *ways) silentEverywhere(b *Bootloader) string {
	why, known := w.mute[b]
	if known {
		return why
	}
	for _, s := range w.everywhere {
		if why = silent(b, s); why == "" {
			break
		}
	}
	w.mute[b] = why
	return why
}

// silent says why a server does not say what the machines of a bootloader ask; ""
// when it does.
func silent(b *Bootloader, s *Server) string {
	tftp, http := !s.TFTP.Disabled, !s.HTTP.Disabled
	switch {
	case !tftp && !http:
		return fmt.Sprintf("%s has neither TFTP nor HTTP, so nothing can be loaded from it. Enable one of them.", s.Addr)
	case b.Protocol == HTTP && !http:
		return fmt.Sprintf(`%s fetches by HTTP, and %s says http { enabled = false }. Enable it, or take protocol = "http" away.`, b.Addr, s.Addr)
	case tftp:
		return ""
	case b.Addr.Type == PXELINUX:
		return fmt.Sprintf("Firmware loads PXELINUX by TFTP, whatever %s fetches later, and %s says tftp { enabled = false }. Enable it.", b.Addr, s.Addr)
	case b.SecureBoot:
		return fmt.Sprintf("The signed programs of %s find each other by TFTP only, and %s says tftp { enabled = false }. Enable it.", b.Addr, s.Addr)
	case b.Protocol == TFTP:
		return fmt.Sprintf(`%s fetches by TFTP, and %s says tftp { enabled = false }. Enable it, or take protocol = "tftp" away.`, b.Addr, s.Addr)
	}
	return ""
}

// architecture is that of an entry's kernel; "" when the configuration does not say.
func (w *ways) architecture(e *Entry) string {
	if e == nil {
		return ""
	}
	if img := w.images[e.Image]; img != nil {
		return img.Architecture()
	}
	return ""
}

// cannotRun says why no machine that a bootloader is made for runs the kernel of an
// entry; "" when one may.
func (w *ways) cannotRun(b *Bootloader, e *Entry) string {
	arch := w.architecture(e)
	platforms := LoaderPlatforms(b.Addr.Type)
	if arch == "" || slices.ContainsFunc(platforms, func(p Platform) bool { return p.Boots(arch) }) {
		return ""
	}
	names := make([]string, len(platforms))
	for i, p := range platforms {
		names[i] = string(p)
	}
	return fmt.Sprintf("The kernel of %s is for %s, and %s bootloader is for machines of %s.", e.Image, arch, article(b.Addr.Type), listed(names, "and"))
}

// runsNowhere says why none of the bootloaders can boot an entry.
func (w *ways) runsNowhere(boot []Addr, e *Entry) string {
	why := ""
	for _, a := range boot {
		b := w.loaders[a]
		if b == nil {
			return ""
		}
		if why = w.cannotRun(b, e); why == "" {
			return ""
		}
	}
	return why
}
