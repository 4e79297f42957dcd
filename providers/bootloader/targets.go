package bootloader

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// What clients say in options 60 and 77.
const (
	classIPXE  = "iPXE"
	vendorHTTP = "HTTPClient"
)

// program says which boot programs a kind of firmware runs, the best first.
type program struct {
	arch    uint16 // option 93, RFC 4578 section 2.1 and the IANA registry after it
	http    bool
	names   []string
	comment string
}

// firmware lists them. Architecture 6 and 15 (UEFI on 32-bit x86) and all that are
// not x86 have no program in the distributions' packages. Much x86-64 firmware
// says 9, which the RFC means for EFI byte code. Over HTTP the program with its own
// drivers comes first: firmware's SNP is not always usable after an HTTP boot.
func firmware() []program {
	return []program{
		{16, true, []string{fullEFI, snponly}, "iPXE for UEFI x86-64, by HTTP boot"},
		{0, false, []string{undionly}, "iPXE for BIOS"},
		{7, false, []string{snponly, fullEFI}, "iPXE for UEFI x86-64"},
		{9, false, []string{snponly, fullEFI}, "iPXE for UEFI x86-64"},
	}
}

// places says where a server's clients find files.
type places struct {
	tftp, http netip.AddrPort // the zero value: not served
}

func placesOf(s *schema.Server) places {
	var p places
	if !s.TFTP.Disabled {
		p.tftp = netip.AddrPortFrom(s.Address, s.TFTP.Listen.Port())
	}
	if !s.HTTP.Disabled {
		p.http = netip.AddrPortFrom(s.Address, s.HTTP.Listen.Port())
	}
	return p
}

// httpURL is the base URL, without a slash at the end; "" when HTTP is off.
func (p places) httpURL() string {
	switch {
	case !p.http.IsValid():
		return ""
	case p.http.Port() == 80:
		return "http://" + p.http.Addr().String()
	}
	return "http://" + p.http.String()
}

// script says how iPXE is told its script. HTTP is much faster; a plain path means
// TFTP from the server that DHCP names.
func (p places) script(path string) string {
	switch {
	case p.http.IsValid():
		return p.httpURL() + "/" + path
	case p.tftp.Port() == 69:
		return path
	}
	return fmt.Sprintf("tftp://%s/%s", p.tftp, path)
}

// targets lists what kinds of client must be told to load.
func (p places) targets(t *tree) []provider.Target {
	list := []provider.Target{{
		Arch: provider.AnyArch, Class: classIPXE, File: p.script(t.path(scriptName)), Comment: "script for iPXE",
	}}
	for _, fw := range firmware() {
		if fw.http && !p.http.IsValid() || !fw.http && !p.tftp.IsValid() {
			continue
		}
		for _, name := range fw.names {
			if t.file(name) == nil {
				continue
			}
			target := provider.Target{Arch: fw.arch, HTTP: fw.http, File: t.path(name), Comment: fw.comment}
			if fw.http {
				target.File = p.httpURL() + "/" + target.File
			}
			list = append(list, target)
			break
		}
	}
	return list
}

// locate says by which protocol, where and under which path a target's file is
// fetched.
func (p places) locate(file string) (protocol, server, path string) {
	rest, isHTTP := strings.CutPrefix(file, "http://")
	rest, isTFTP := strings.CutPrefix(rest, "tftp://")
	if isHTTP || isTFTP {
		_, file, _ = strings.Cut(rest, "/")
	}
	if isHTTP {
		return "http", p.http.String(), file
	}
	return "tftp", p.tftp.String(), strings.TrimLeft(file, "/")
}

// loaderFor gives the target of firmware with that architecture.
func loaderFor(targets []provider.Target, arch uint16, http bool) (provider.Target, bool) {
	for _, t := range targets {
		if t.Class == "" && t.HTTP == http && (t.Arch == arch || t.Arch == provider.AnyArch) {
			return t, true
		}
	}
	return provider.Target{}, false
}

// noLoader says why firmware is offered nothing.
func noLoader(arch uint16, http bool, p places) string {
	for _, fw := range firmware() {
		switch {
		case fw.arch != arch || fw.http != http:
		case http && !p.http.IsValid():
			return "HTTP is switched off on the server"
		case !http && !p.tftp.IsValid():
			return "TFTP is switched off on the server"
		default:
			return fmt.Sprintf("%s was not found on this host; it is in the package ipxe", strings.Join(fw.names, " or "))
		}
	}
	how := "TFTP"
	if http {
		how = "HTTP boot"
	}
	return fmt.Sprintf("there is no iPXE for client architecture %d by %s", arch, how)
}
