package schema

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// nfs reads what only NFS exports have.
func (it *item) nfs(e *Export) {
	otherwise := "/" + it.made.addr.Wire()
	fine := it.fine(func() { e.Path = it.exposedText("path", onKernelLine, otherwise, checkExportPath) })
	if err := checkExportPath(otherwise); fine && !it.has("path") && err != nil {
		it.fail(it.at, fmt.Sprintf("%q is no path of an export", otherwise), "Without path, an export is called after its block and key. Write path = …. "+err.Error())
	}
	fine = it.fine(func() { e.Clients = it.clients() })
	if fine && it.has("clients") {
		switch {
		case len(e.Clients) == 0:
			it.fail(it.place("clients"), "clients is an empty list", `Nobody could mount the export. Leave the line out to have the machines that are known here, or write ["*"] for everybody.`)
		case it.has("allow"):
			it.fail(it.place("clients"), "clients and allow", "Both say who may mount the export. allow goes by subnets and hosts of the configuration, clients by addresses; take one of them away.")
		}
	}
	fine = it.fine(func() { e.Options = it.set("options", nil, checkNFSOption) })
	if !fine || !it.has("options") {
		return
	}
	for _, pair := range [...][2]string{{"root_squash", "no_root_squash"}, {"all_squash", "no_root_squash"}, {"secure", "insecure"}} {
		if slices.Contains(e.Options, pair[0]) && slices.Contains(e.Options, pair[1]) {
			it.fail(it.place("options"), fmt.Sprintf("Options %q and %q", pair[0], pair[1]), "Each says what the other denies. Take one of them away.")
		}
	}
	named := map[string]string{}
	for _, o := range e.Options {
		name, value, _ := strings.Cut(o, "=")
		if other, twice := named[name]; twice {
			it.fail(it.place("options"), fmt.Sprintf("Option %q twice", name), fmt.Sprintf("It is %s and %s. Take one of them away.", other, value))
		}
		named[name] = value
	}
}

var exportPath = regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9._@-]*)+$`)

// checkExportPath checks where an export is below the server's root, which is the
// pseudo root of RFC 7530, section 7.3. The path becomes a part of a word of the
// kernel line, where commas and colons end it.
func checkExportPath(s string) error {
	switch {
	case s == "/":
		return errors.New(`That is the server's own root, which holds the paths of all exports: what others write as fsid=0. An export lies below it: "/arch".`)
	case !strings.HasPrefix(s, "/"):
		return errors.New(`It begins at the server's root: "/arch".`)
	case len(s) > maxExportPath || !exportPath.MatchString(s):
		return fmt.Errorf("It is on the kernel line of machines. It has at most %d characters, and its parts have letters, digits, and . _ @ - behind the first one.", maxExportPath)
	}
	return nil
}

// clients reads who may mount, as exports(5) has it, in one spelling: "*", or a
// prefix of IPv4.
func (it *item) clients() []string {
	same := func(s string) string { return s }
	order := func(l []string) []string { slices.Sort(l); return slices.Compact(l) }
	return list(it, "clients", nil, parseNFSClient, same, order)
}

func parseNFSClient(s string) (string, error) {
	const form = `A client is "*" for everybody, an IPv4 address, or a network: "10.0.0.0/24".`
	switch {
	case s == "*":
		return s, nil
	case strings.HasPrefix(s, "@"):
		return "", errors.New("Netgroups are kept by a directory service that is not asked here. " + form)
	case strings.HasPrefix(s, "gss/"):
		return "", errors.New("Machines that boot have no Kerberos key. " + form)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if !a.Is4() {
			return "", errors.New("Only IPv4 is served. " + form)
		}
		return a.String(), nil
	}
	host, bits, network := strings.Cut(s, "/")
	if network {
		if mask, err := netip.ParseAddr(bits); err == nil && mask.Is4() {
			bits = strconv.Itoa(maskBits(mask))
		}
		p, err := netip.ParsePrefix(host + "/" + bits)
		switch {
		case err != nil || !p.Addr().Is4():
			return "", errors.New(form)
		case p != p.Masked():
			return "", fmt.Errorf("There are bits behind the prefix. Did you mean %s?", p.Masked())
		}
		return p.String(), nil
	}
	return "", errors.New("Names of machines are not looked up: whoever answers for them would decide who may mount. " + form + " Hosts of the configuration are named in allow = [host.name].")
}

// maskBits gives the length of the prefix that a netmask stands for; -1 when it
// stands for none.
func maskBits(mask netip.Addr) int {
	for n := range 33 {
		if p, _ := netip.AddrFrom4([4]byte{255, 255, 255, 255}).Prefix(n); p.Addr() == mask {
			return n
		}
	}
	return -1
}

// nfsOptions are the options of exports(5) that mean something here. Those with an =
// take the number of a user or a group.
var nfsOptions = []string{
	"all_squash", "anongid=", "anonuid=", "insecure", "no_root_squash", "no_subtree_check", "root_squash", "sec=sys", "secure", "sync",
}

// otherNFSOptions says of the others why they are not taken, and what to write.
var otherNFSOptions = map[string]string{
	"rw":             `Write mode = "read-write".`,
	"ro":             `Write mode = "read-only", or nothing: it is the default.`,
	"async":          "A server that answers before the data is kept loses it with the power, and no machine learns of it. Take it away.",
	"subtree_check":  "Every export is a whole tree, so there is no part of one to check. Take it away.",
	"fsid":           "Every export has its own from its image, and the server's root, fsid=0 elsewhere, is there by itself: path says where below it the export lies. Take it away.",
	"crossmnt":       "An export has no other file systems in it. Take it away.",
	"nohide":         "An export has no other file systems in it. Take it away.",
	"hide":           "An export has no other file systems in it. Take it away.",
	"mp":             "What is exported is an image and no place of this machine's. Take it away.",
	"mountpoint":     "What is exported is an image and no place of this machine's. Take it away.",
	"sec":            "Machines that boot have no Kerberos key: there is sec=sys only, which is the default.",
	"xprtsec":        "The NFS of machines that boot knows no TLS. Take it away.",
	"refer":          "Nobody is sent to another server from here. Name that server in a mount block.",
	"replicas":       "Nobody is sent to another server from here. Name that server in a mount block.",
	"no_acl":         "There are no access control lists beyond permissions. Take it away.",
	"pnfs":           "Files are read and written through the server only. Take it away.",
	"security_label": "Labels are not served. Take it away.",
	"no_wdelay":      "Writes are never held back. Take it away.",
	"wdelay":         "Writes are never held back. Take it away.",
}

// checkNFSOption checks one option of exports(5).
func checkNFSOption(s string) error {
	name, value, valued := strings.Cut(s, "=")
	switch {
	case strings.Contains(s, ","):
		return errors.New(`A comma ends an option: write each one by itself, ["no_root_squash", "no_subtree_check"].`)
	case slices.Contains(nfsOptions, s) && !strings.HasSuffix(s, "="):
		return nil
	case slices.Contains(nfsOptions, name+"="):
		if n, err := strconv.ParseUint(value, 10, 32); !valued || err != nil || n > 1<<32-2 || strconv.FormatUint(n, 10) != value {
			return fmt.Errorf("It takes a number: %s=65534.", name)
		}
		return nil
	}
	if why, known := otherNFSOptions[name]; known {
		return fmt.Errorf("exports(5) has the option %s, and it is not taken here. %s", name, why)
	}
	return fmt.Errorf("The options are %s.%s", listed(nfsOptions, "and"), didYouMean(s, nfsOptions))
}
