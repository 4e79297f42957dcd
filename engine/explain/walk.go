package explain

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Result is one boot as it would go.
type Result struct {
	Machine string       `json:"machine"` // the host's address, or the MAC of a machine without a host block
	MAC     provider.MAC `json:"mac"`
	Host    schema.Addr  `json:"host,omitzero"`
	Arch    uint16       `json:"arch"`            // option 93
	Class   string       `json:"class,omitempty"` // option 77 that the first packet carries
	// Steps are the answers in the order in which the machine asks. A boot that
	// fails ends with the last answer there was.
	Steps      []provider.Answer `json:"steps"`
	KernelLine string            `json:"kernel_line"` // "" when it gets no kernel
	// Fails says why it would not work. It is empty when it would, and for a
	// machine that is given an address only.
	Fails []string `json:"fails"`
}

const ipxeClass = "iPXE"

// fieldAddress is the field of a DHCP answer that holds the client's address.
const fieldAddress = "yiaddr"

// Walk follows the boot of the machine in q, of which MAC, Host, Subnet, Arch and
// Generation count. q.Class "iPXE" is a machine whose own ROM is iPXE: it begins
// there. ask gives the answers of all providers, in their order.
//
// The machine asks DHCP as firmware, loads what it is told; if that is iPXE, it
// asks DHCP again as that, and loads script, kernel and initrds; the initramfs asks
// DHCP once more, without naming a class, and attaches the root.
func Walk(ask func(provider.Query) []provider.Answer, q provider.Query) Result {
	w := &walk{ask: ask, q: q, res: Result{
		MAC: q.MAC, Host: q.Host, Arch: q.Arch, Class: q.Class,
		Steps: []provider.Answer{}, Fails: []string{},
	}}
	w.res.Machine = q.MAC.String()
	if !q.Host.IsZero() {
		w.res.Machine = q.Host.String()
	}
	if w.script() {
		w.system()
	}
	return w.res
}

type walk struct {
	ask  func(provider.Query) []provider.Answer
	q    provider.Query
	res  Result
	file []provider.Answer // the answers that the files are taken from
}

func (w *walk) fail(format string, args ...any) {
	w.res.Fails = append(w.res.Fails, fmt.Sprintf(format, args...))
}

func (w *walk) step(a provider.Answer) {
	w.res.Steps = append(w.res.Steps, a)
	if a.Fail != "" {
		what := string(a.Kind)
		if a.Name != "" {
			what += " " + a.Name
		}
		where := ""
		if r := a.Range.String(); r != "" {
			where = " (" + r + ")"
		}
		w.fail("%s: %s%s", what, a.Fail, where)
	}
}

// dhcp asks DHCP as vendor and class, notes the answer, and returns it with all
// that was answered. Without an answer it notes a failure.
func (w *walk) dhcp(arch uint16, vendor, class string) (provider.Answer, bool) {
	q := w.q
	q.Arch, q.Vendor, q.Class = arch, vendor, class
	w.file = w.ask(q)
	a, ok := first(w.file, provider.AnswerDHCP)
	if !ok {
		w.fail("%s gets no DHCP answer", speaker(vendor, class))
		return a, false
	}
	w.step(a)
	if !w.q.Address.IsValid() {
		if addr, err := netip.ParseAddr(a.Fields[fieldAddress]); err == nil && !addr.IsUnspecified() {
			w.q.Address = addr
			if !w.offers(a.Name) {
				// Only the address tells which subnet the machine is on, and so
				// which files are its own.
				q.Address = addr
				w.file = w.ask(q)
			}
		}
	}
	return a, true
}

// offers reports whether the boot file called name is among those that were
// answered, or none is named.
func (w *walk) offers(name string) bool {
	_, script := w.named(provider.AnswerScript, name)
	_, loader := w.named(provider.AnswerLoader, name)
	return name == "" || script || loader
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

// script walks as far as the kernel and its initrds, and reports whether it got
// there.
func (w *walk) script() bool {
	arch, class, vendor := w.q.Arch, w.q.Class, Vendor(w.q.Arch)
	for {
		if class == ipxeClass { // iPXE says this whatever loaded it
			arch, vendor = ipxeArch(arch), "PXEClient"
		}
		a, ok := w.dhcp(arch, vendor, class)
		if !ok {
			return false
		}
		if a.Name == "" {
			if a.Fail != "" {
				return false // says why
			}
			if _, loader := first(w.file, provider.AnswerLoader); loader {
				w.fail("%s is told no boot file for client architecture %d (%s)", speaker(vendor, class), arch, ArchName(arch))
			} else if _, script := first(w.file, provider.AnswerScript); script {
				w.fail("%s is told no boot file", speaker(vendor, class))
			}
			return false // else: an address is all it is to get
		}
		if s, ok := w.named(provider.AnswerScript, a.Name); ok {
			w.step(s)
			return w.kernel()
		}
		l, ok := w.named(provider.AnswerLoader, a.Name)
		if !ok {
			w.fail("%s is told to load %q, which nothing here serves", speaker(vendor, class), a.Name)
			return false
		}
		w.step(l)
		if class == ipxeClass {
			w.fail("iPXE is told to load %q, a loader, again and again", a.Name)
			return false
		}
		class = ipxeClass
	}
}

// kernel takes the first kernel and what follows it up to the next one: further
// entries are for whoever chooses from a menu.
func (w *walk) kernel() bool {
	kernels, initrds := 0, 0
	for _, a := range w.file {
		switch a.Kind {
		case provider.AnswerKernel:
			if kernels++; kernels == 1 {
				w.res.KernelLine = a.Line
				w.step(a)
			}
		case provider.AnswerInitrd:
			if kernels == 1 {
				initrds++
				w.step(a)
			}
		}
	}
	if kernels == 0 {
		w.fail("there is no kernel for it")
		return false
	}
	if initrds == 0 {
		w.fail("there is no initrd for it")
	}
	return true
}

// system is the initramfs: it asks DHCP as a plain client and attaches the root.
func (w *walk) system() {
	files := w.file
	if _, ok := w.dhcp(0, "", ""); !ok {
		return
	}
	root, ok := first(w.file, provider.AnswerRoot)
	if !ok {
		root, ok = first(files, provider.AnswerRoot)
	}
	if !ok {
		w.fail("there is no export with its root")
		return
	}
	w.step(root)
	name, server, ok := nbdRoot(w.res.KernelLine)
	switch {
	case !ok:
		w.fail("the kernel line names no root: it has no nbdroot=")
	case name != root.Name:
		w.fail("the kernel line names the export %q, but its root is %q", name, root.Name)
	case root.Server != "" && server != root.Server:
		w.fail("the kernel line looks for its root at %s, but it is served at %s", server, root.Server)
	}
}

// nbdPort is the port that nbdroot= leaves out.
const nbdPort = "10809"

// nbdRoot reads nbdroot=<ip>[:port],<export name>,<device> of a kernel line.
func nbdRoot(line string) (name, server string, ok bool) {
	for _, word := range strings.Fields(line) {
		v, is := strings.CutPrefix(word, "nbdroot=")
		if !is {
			continue
		}
		parts := strings.Split(v, ",")
		if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
			return "", "", false
		}
		server = parts[0]
		if !strings.Contains(server, ":") {
			server += ":" + nbdPort
		}
		name, ok = parts[1], true // the last one counts, as for the kernel
	}
	return name, server, ok
}

func first(list []provider.Answer, kind provider.AnswerKind) (provider.Answer, bool) {
	for _, a := range list {
		if a.Kind == kind {
			return a, true
		}
	}
	return provider.Answer{}, false
}

// named finds the file that a DHCP answer names, preferring the protocol that the
// name implies.
func (w *walk) named(kind provider.AnswerKind, file string) (provider.Answer, bool) {
	path, protocol := filePath(file)
	var found provider.Answer
	ok := false
	for _, a := range w.file {
		p, _ := filePath(a.Name)
		if a.Kind != kind || p != path {
			continue
		}
		if a.Protocol == protocol {
			return a, true
		}
		if !ok {
			found, ok = a, true
		}
	}
	return found, ok
}

// filePath takes "b/x/boot.ipxe", "/b/x/boot.ipxe" and "http://10.0.0.1/b/x/boot.ipxe"
// for the same file, and gives the protocol that fetches it.
func filePath(file string) (path, protocol string) {
	protocol = "tftp"
	if strings.Contains(file, "://") {
		if u, err := url.Parse(file); err == nil {
			file, protocol = u.Path, u.Scheme
		}
	}
	return strings.TrimLeft(file, "/"), protocol
}
