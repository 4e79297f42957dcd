package explain

import (
	"net/url"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// first gives the first of the last answers that is of a kind.
func (w *walk) first(kind provider.AnswerKind) (provider.Answer, bool) { return first(w.file, kind) }

func first(list []provider.Answer, kind provider.AnswerKind) (provider.Answer, bool) {
	for _, a := range list {
		if a.Kind == kind {
			return a, true
		}
	}
	return provider.Answer{}, false
}

// named finds, among the last answers, the loader or script that somebody is told to
// load, preferring the protocol that the name implies.
func (w *walk) named(file string) (at int, ok bool) {
	path, protocol := filePath(file)
	for i, a := range w.file {
		if a.Kind != provider.AnswerScript && a.Kind != provider.AnswerLoader {
			continue
		}
		if p, _ := filePath(a.Name); p != path {
			continue
		}
		if a.Protocol == protocol {
			return i, true
		}
		if !ok {
			at, ok = i, true
		}
	}
	return at, ok
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

// Foreign gives what a DHCP server that is not ours has to name to a machine like
// the one in q: the loader of its firmware, then, when that asks DHCP anew, what it
// is to load. They are the files that our own server would name. It is empty when
// there is no program for the machine; why is in what ask answers.
func Foreign(ask func(provider.Query) []provider.Answer, q provider.Query) []string {
	var files []string
	class, arch, vendor := q.Class, q.Arch, Vendor(q.Arch)
	for range 2 {
		if class == ipxeClass {
			arch, vendor = ipxeArch(arch), vendorPXE
		}
		q.Arch, q.Vendor, q.Class, q.File = arch, vendor, class, ""
		for _, a := range ask(q) {
			if a.Kind != provider.AnswerLoader && a.Kind != provider.AnswerScript {
				continue
			}
			if a.Fail != "" || a.Name == "" {
				return files
			}
			files = append(files, told(a))
			if a.Kind == provider.AnswerScript || a.Again == "" || a.Again == class {
				return files
			}
			class = a.Again
			break
		}
	}
	return files
}

// told is the name by which a client is told a file.
func told(a provider.Answer) string {
	if a.Protocol == "http" {
		return "http://" + strings.TrimSuffix(a.Server, ":80") + "/" + a.Name
	}
	return a.Name
}
