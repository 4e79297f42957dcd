package explain

import (
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// system is the initramfs: it asks DHCP as a plain client, and attaches the root
// that the kernel line names.
func (w *walk) system() {
	name, server, ok := nbdRoot(w.res.KernelLine)
	w.q.Root = name
	if w.foreign != nil {
		q := w.q
		q.Arch, q.Vendor, q.Class = 0, "", ""
		w.file = w.ask(q)
	} else if a, answered := w.dhcp(0, "", ""); answered {
		w.step(a)
	} else if !w.proxied {
		w.fail("%s gets no DHCP answer", speaker("", ""))
		return
	}
	root, served := w.first(provider.AnswerRoot)
	if served {
		w.step(root)
	}
	switch {
	case !ok && !served:
		w.fail("there is no export with its root")
	case !ok:
		w.fail("the kernel line names no root: it has no nbdroot=")
	case !served:
		w.fail("the kernel line names the export %q, which nothing here serves", name)
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
