package explain

import (
	"fmt"
	"net/netip"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Result is one boot as it would go.
type Result struct {
	Machine string       `json:"machine"` // the host's address; of a machine without a host block its MAC, or the address that is all that is known of it
	MAC     provider.MAC `json:"mac"`
	Host    schema.Addr  `json:"host,omitzero"`
	Subnet  schema.Addr  `json:"subnet,omitzero"` // where it was said to be
	Arch    uint16       `json:"arch"`            // option 93
	Vendor  string       `json:"vendor"`          // option 60 of its first packet, up to the first colon
	Class   string       `json:"class,omitempty"` // option 77 that the first packet carries
	// Steps are the answers in the order in which the machine asks. A boot that
	// fails ends with the last answer there was.
	Steps      []provider.Answer `json:"steps"`
	KernelLine string            `json:"kernel_line"` // "" when it gets no kernel
	// Fails says why it would not work. It is empty when it would, and for a
	// machine that is given an address only.
	Fails []string `json:"fails"`
}

// fieldAddress is the field of a DHCP answer that holds the client's address. A proxy
// offer has none.
const fieldAddress = "yiaddr"

// Walk follows the boot of the machine in q, of which MAC, Host, Subnet, Address,
// Arch and Generation count. q.Class "iPXE" is a machine whose own ROM is iPXE: it
// begins there. ask gives the answers of all providers, in their order.
//
// The machine asks DHCP as firmware and loads what it is told. A program that asks
// DHCP anew (Answer.Again) does so under its class; any other fetches what follows it
// in the answers, up to the first kernel and its initrds, which is what boots when
// nobody chooses. The initramfs asks DHCP once more, without naming a class, and
// attaches the root that the kernel line names.
//
// With q.File, a DHCP server that is not ours gives the machine its address and names
// that file to the firmware, and nobody asks ours. later holds what it names to a
// program that asks anew; without it, the same file.
func Walk(ask func(provider.Query) []provider.Answer, q provider.Query, later ...string) Result {
	w := &walk{ask: ask, q: q, res: Result{
		MAC: q.MAC, Host: q.Host, Subnet: q.Subnet, Arch: q.Arch, Vendor: Vendor(q.Arch), Class: q.Class,
		Steps: []provider.Answer{}, Fails: []string{},
	}}
	w.res.Machine = q.MAC.String()
	if a, ok := q.MAC.Address(); ok {
		w.res.Machine = a.String()
	}
	if !q.Host.IsZero() {
		w.res.Machine = q.Host.String()
	}
	if q.Class == ipxeClass {
		w.res.Vendor = vendorPXE
	}
	if q.File != "" {
		w.foreign = append([]string{q.File}, later...)
	}
	w.q.File = ""
	if w.programs() {
		w.system()
	}
	return w.res
}

type walk struct {
	ask     func(provider.Query) []provider.Answer
	q       provider.Query
	foreign []string // what the other DHCP server names; nil when ours answers
	proxied bool     // ours answers, and somebody else gives the address
	res     Result
	file    []provider.Answer // the answers that the files are taken from
}

func (w *walk) fail(format string, args ...any) {
	w.res.Fails = append(w.res.Fails, fmt.Sprintf(format, args...))
}

// where is the place of an answer, for the end of a sentence.
func where(a provider.Answer) string {
	if r := a.Range.String(); r != "" {
		return " (" + r + ")"
	}
	return ""
}

// step notes an answer, and reports whether it works.
func (w *walk) step(a provider.Answer) bool {
	w.res.Steps = append(w.res.Steps, a)
	if a.Fail == "" {
		return true
	}
	what := string(a.Kind)
	if a.Name != "" {
		what += " " + a.Name
	}
	w.fail("%s: %s%s", what, a.Fail, where(a))
	return false
}

func speaker(vendor, class string) string {
	switch {
	case class != "":
		return class
	case vendor != "":
		return "firmware (" + vendor + ")"
	default:
		return "the operating system"
	}
}

// programs walks as far as the kernel and its initrds, and reports whether it got
// there.
func (w *walk) programs() bool {
	arch, class, vendor := w.q.Arch, w.q.Class, w.res.Vendor
	for {
		if class == ipxeClass { // it says this whatever loaded it
			arch, vendor = ipxeArch(arch), vendorPXE
		}
		name, ok := w.told(arch, vendor, class)
		if !ok {
			return false
		}
		i, ok := w.named(name)
		if !ok {
			w.fail("%s is told to load %q, which nothing here serves", speaker(vendor, class), name)
			return false
		}
		a := w.file[i]
		if !w.step(a) {
			return false
		}
		if a.Kind == provider.AnswerScript || a.Again == "" {
			return w.follow(a, w.file[i+1:])
		}
		if a.Again == class {
			hint := ""
			if w.foreign != nil {
				hint = "; the other DHCP server must name a script to clients of the user class " + class
			}
			w.fail("%s is told to load %q, a loader, again and again%s", class, name, hint)
			return false
		}
		class = a.Again
	}
}

// told gives the boot file that a program is told which asks as vendor and class. ok
// is false when the boot ends there; why is noted, unless an address is all that the
// machine is to get.
func (w *walk) told(arch uint16, vendor, class string) (name string, ok bool) {
	if w.foreign != nil {
		q := w.q
		q.Arch, q.Vendor, q.Class, q.File = arch, vendor, class, w.foreign[0]
		if len(w.foreign) > 1 {
			w.foreign = w.foreign[1:]
		}
		w.file = w.ask(q)
		return q.File, true
	}
	a, ok := w.dhcp(arch, vendor, class)
	if !ok {
		w.fail("%s gets no DHCP answer", speaker(vendor, class))
		return "", false
	}
	w.proxied = a.Fail == "" && !w.address(a).IsValid()
	if a.Name != "" {
		return a.Name, w.step(a)
	}
	l, is := w.first(provider.AnswerLoader)
	if is && l.Fail != "" && a.Fields != nil {
		// Who has the programs knows better why there is none.
		w.res.Steps = append(w.res.Steps, a)
		w.fail("%s is told no boot file: %s%s", speaker(vendor, class), l.Fail, where(l))
		return "", false
	}
	if !w.step(a) {
		return "", false
	}
	_, script := w.first(provider.AnswerScript)
	switch {
	case is:
		w.fail("%s is told no boot file for client architecture %d (%s)", speaker(vendor, class), arch, schema.ClientArchOf(arch).Name)
	case script:
		w.fail("%s is told no boot file", speaker(vendor, class))
	}
	return "", false // else: an address is all it is to get
}

// dhcp asks DHCP as vendor and class. It keeps all that was answered.
func (w *walk) dhcp(arch uint16, vendor, class string) (provider.Answer, bool) {
	q := w.q
	q.Arch, q.Vendor, q.Class = arch, vendor, class
	w.file = w.ask(q)
	a, ok := w.first(provider.AnswerDHCP)
	if ok && !w.q.Address.IsValid() {
		if w.q.Address = w.address(a); w.q.Address.IsValid() {
			if _, offered := w.named(a.Name); a.Name != "" && !offered {
				// Only the address tells which subnet the machine is on, and so
				// which files are its own.
				q.Address = w.q.Address
				w.file = w.ask(q)
			}
		}
	}
	return a, ok
}

// address is what a DHCP answer gives; the zero Addr when that is nothing.
func (w *walk) address(a provider.Answer) netip.Addr {
	addr, err := netip.ParseAddr(a.Fields[fieldAddress])
	if err != nil || addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr
}

// follow takes what a program fetches after itself: everything up to the first
// kernel, that, and its initrds. What comes then is for whoever chooses from a menu.
func (w *walk) follow(program provider.Answer, rest []provider.Answer) bool {
	files, kernels, initrds := 0, 0, 0
walk:
	for _, a := range rest {
		switch a.Kind {
		case provider.AnswerLoader, provider.AnswerScript:
			if kernels > 0 {
				break walk
			}
		case provider.AnswerKernel:
			if kernels++; kernels > 1 {
				break walk
			}
			w.res.KernelLine = a.Line
		case provider.AnswerInitrd:
			if kernels == 0 {
				continue
			}
			initrds++
		default:
			continue
		}
		files++
		w.step(a)
	}
	switch {
	case files == 0 && unknown(program):
		return false // what it does is not ours to know
	case kernels == 0:
		w.fail("there is no kernel for it")
		return false
	case initrds == 0:
		w.fail("there is no initrd for it")
	}
	return true
}

// unknown reports whether a boot program is somebody else's: one that the
// configuration names and that lies on another server.
func unknown(program provider.Answer) bool {
	return program.Kind == provider.AnswerLoader && program.Digest == "" && program.Size == 0 && program.Fail == ""
}
