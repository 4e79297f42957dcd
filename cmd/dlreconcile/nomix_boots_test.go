package main

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// The ways in which machines of this test boot. Those on "far" have their address
// from another DHCP server.
func mixWays() map[string]func(*mixBoot) error {
	return map[string]func(*mixBoot) error{
		// Our DHCP.
		"rom":     (*mixBoot).romIPXE,
		"chained": func(b *mixBoot) error { return b.chainedIPXE(askBIOS) },
		"uefi":    func(b *mixBoot) error { return b.chainedIPXE(askUEFI) },
		"http":    func(b *mixBoot) error { return b.chainedIPXE(askHTTP) },
		"pxe":     (*mixBoot).pxelinux,
		"lpxe":    (*mixBoot).pxelinux,
		"grub":    func(b *mixBoot) error { return b.grub(askBIOS) },
		"signed":  func(b *mixBoot) error { return b.grub(askUEFI) },
		// Another server's DHCP, beside which ours names the files.
		"proxied":        func(b *mixBoot) error { return b.proxiedIPXE(askBIOS) },
		"proxied-uefi":   func(b *mixBoot) error { return b.proxiedIPXE(askUEFI) },
		"proxied-signed": (*mixBoot).proxiedGRUB,
		// Another server's DHCP that names our files itself.
		"foreign-rom":     (*mixBoot).foreignROM,
		"foreign-chained": (*mixBoot).foreignIPXE,
		"foreign-pxe":     (*mixBoot).foreignPXELINUX,
		"foreign-signed":  (*mixBoot).foreignGRUB,
	}
}

// dhcp is a whole exchange with our server.
func (b *mixBoot) dhcp(a asks) (*dhcpv4.DHCPv4, error) {
	discover, err := dhcpv4.NewDiscovery(b.mac[:], a.options()...)
	if err != nil {
		return nil, err
	}
	offer, err := b.broadcast(discover, true)
	if err != nil {
		return nil, fmt.Errorf("DISCOVER: %w", err)
	}
	b.sawDHCP("offer", offer)
	if err := b.step(); err != nil {
		return nil, err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, a.options()...)
	if err != nil {
		return nil, err
	}
	ack, err := b.broadcast(request, true)
	if err != nil {
		return nil, fmt.Errorf("REQUEST: %w", err)
	}
	if ack.MessageType() != dhcpv4.MessageTypeAck {
		return nil, fmt.Errorf("the server answers %s", ack.MessageType())
	}
	b.distinct()
	b.sawDHCP("acknowledgement", ack)
	b.addr, _ = netip.AddrFromSlice(ack.YourIPAddr.To4())
	return ack, nil
}

func (b *mixBoot) sawDHCP(what string, p *dhcpv4.DHCPv4) {
	b.saw(what, []byte(p.DomainName()+"\n"+bootFile(p)+"\n"+string(p.Options.Get(dhcpv4.OptionPXELinuxPathPrefix))))
}

// proxied is an exchange with the other DHCP server, as far as ours has to do with
// it. late is the second request of firmware, on port 4011.
func (b *mixBoot) proxied(a asks, late bool) (*dhcpv4.DHCPv4, error) {
	discover, err := dhcpv4.NewDiscovery(b.mac[:], a.options()...)
	if err != nil {
		return nil, err
	}
	offer, err := b.broadcast(discover, true)
	if err != nil {
		return nil, fmt.Errorf("DISCOVER: %w", err)
	}
	if !offer.YourIPAddr.IsUnspecified() {
		return nil, fmt.Errorf("a proxied subnet gives the address %s", offer.YourIPAddr)
	}
	b.sawDHCP("offer", offer)
	if err := b.step(); err != nil {
		return nil, err
	}
	// The other server acknowledges this; ours hears it.
	request, err := dhcpv4.New(append(a.options(),
		dhcpv4.WithHwAddr(b.mac[:]), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(b.relay.AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(b.addr.AsSlice())))...)
	if err != nil {
		return nil, err
	}
	if _, err := b.broadcast(request, false); err != nil {
		return nil, err
	}
	if !late {
		return offer, nil
	}
	again, err := dhcpv4.New(append(a.options(),
		dhcpv4.WithHwAddr(b.mac[:]), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithClientIP(b.addr.AsSlice()))...)
	if err != nil {
		return nil, err
	}
	ack, err := b.late(again)
	if err != nil {
		return nil, fmt.Errorf("REQUEST on port 4011: %w", err)
	}
	b.distinct()
	b.sawDHCP("acknowledgement", ack)
	return ack, nil
}

// script runs an iPXE script from a URL, and what it leads to.
func (b *mixBoot) script(url string) (line string, err error) {
	text, err := b.fetch("script", url)
	if err != nil {
		return "", err
	}
	if m := ipxeChain.FindSubmatch(text); m != nil {
		own := strings.ReplaceAll(b.mac.String(), ":", "-")
		return b.script(strings.ReplaceAll(string(m[1]), "${netX/mac:hexhyp}", own))
	}
	kernel := ipxeKernel.FindSubmatch(text)
	if kernel == nil {
		return "", fmt.Errorf("%s boots nothing: %s", url, text)
	}
	var names []string
	for _, m := range ipxeInitrd.FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	base := url[:strings.LastIndexByte(url, '/')+1]
	return string(kernel[2]), b.initrds(base, string(kernel[1]), names)
}

// romIPXE is an iPXE in the ROM: it asks DHCP and is told its script.
func (b *mixBoot) romIPXE() error {
	ack, err := b.dhcp(askIPXE)
	if err != nil {
		return err
	}
	line, err := b.script(bootFile(ack))
	if err != nil {
		return err
	}
	return b.system(line, true, false)
}

// chainedIPXE is firmware that is told an iPXE, which asks DHCP anew.
func (b *mixBoot) chainedIPXE(firmware asks) error {
	ack, err := b.dhcp(firmware)
	if err != nil {
		return err
	}
	if _, err := b.fetch("loader", bootFile(ack)); err != nil {
		return err
	}
	if err := b.step(); err != nil {
		return err
	}
	return b.romIPXE()
}

// proxiedIPXE is the same beside another DHCP server.
func (b *mixBoot) proxiedIPXE(firmware asks) error {
	ack, err := b.proxied(firmware, true)
	if err != nil {
		return err
	}
	if _, err := b.fetch("loader", bootFile(ack)); err != nil {
		return err
	}
	if err := b.step(); err != nil {
		return err
	}
	if ack, err = b.proxied(askIPXE, false); err != nil {
		return err
	}
	line, err := b.script(bootFile(ack))
	if err != nil {
		return err
	}
	return b.system(line, false, firmware == askUEFI)
}

// foreignROM is an iPXE in the ROM that another DHCP server sends to our script.
func (b *mixBoot) foreignROM() error {
	line, err := b.script("http://" + mixServer + "/boot.ipxe")
	if err != nil {
		return err
	}
	return b.system(line, false, true)
}

// foreignIPXE is firmware that another DHCP server sends to our iPXE, and then to
// our script.
func (b *mixBoot) foreignIPXE() error {
	if _, err := b.fetch("loader", "undionly.kpxe"); err != nil {
		return err
	}
	b.delivered()
	line, err := b.script("tftp://" + mixServer + ":69/boot.ipxe")
	if err != nil {
		return err
	}
	return b.system(line, false, true)
}

var (
	pxeLinux  = regexp.MustCompile(`(?m)^ *LINUX (\S+)$`)
	pxeInitrd = regexp.MustCompile(`(?m)^ *INITRD (\S+)$`)
	pxeAppend = regexp.MustCompile(`(?m)^ *APPEND (.+)$`)
	pxeLeads  = regexp.MustCompile(`(?m)^ *CONFIG [0-9.]+::(\S+) [0-9.]+::(\S+)$`)
)

// configured reads PXELINUX's configuration and loads what it says. prefix is what
// its names are relative to.
func (b *mixBoot) configured(prefix, config string) (line string, err error) {
	text, err := b.fetch("configuration", prefix+config)
	if err != nil {
		return "", err
	}
	if m := pxeLeads.FindSubmatch(text); m != nil {
		prefix, config = string(m[2]), strings.TrimPrefix(string(m[1]), string(m[2]))
		if _, err := b.fetch("second half, again", prefix+"ldlinux.c32"); err != nil {
			return "", err
		}
		return b.configured(prefix, config)
	}
	kernel, initrd, words := pxeLinux.FindSubmatch(text), pxeInitrd.FindSubmatch(text), pxeAppend.FindSubmatch(text)
	if kernel == nil || initrd == nil || words == nil {
		return "", fmt.Errorf("%s boots nothing: %s", config, text)
	}
	return string(words[1]), b.initrds(prefix, string(kernel[1]), strings.Split(string(initrd[1]), ","))
}

// pxelinux is firmware that is told PXELINUX, or LPXELINUX.
func (b *mixBoot) pxelinux() error {
	ack, err := b.dhcp(askBIOS)
	if err != nil {
		return err
	}
	file := bootFile(ack)
	if _, err := b.fetch("loader", file); err != nil {
		return err
	}
	prefix := string(ack.Options.Get(dhcpv4.OptionPXELinuxPathPrefix))
	if prefix == "" {
		prefix = path.Dir(file) + "/"
	}
	if _, err := b.fetch("second half", prefix+"ldlinux.c32"); err != nil {
		return err
	}
	config := string(ack.Options.Get(dhcpv4.OptionPXELinuxConfigFile))
	if config == "" {
		config = "pxelinux.cfg/default"
	}
	line, err := b.configured(prefix, config)
	if err != nil {
		return err
	}
	return b.system(line, true, false)
}

// foreignPXELINUX is firmware that another DHCP server sends to our PXELINUX.
func (b *mixBoot) foreignPXELINUX() error {
	if _, err := b.fetch("loader", "pxelinux.0"); err != nil {
		return err
	}
	b.delivered()
	if _, err := b.fetch("second half", "ldlinux.c32"); err != nil {
		return err
	}
	line, err := b.configured("", "pxelinux.cfg/01-"+strings.ReplaceAll(b.mac.String(), ":", "-"))
	if err != nil {
		return err
	}
	return b.system(line, false, false)
}

var (
	grubLinux  = regexp.MustCompile(`(?m)^ *if linux "\$tree/(\S+)" (.*); then$`)
	grubInitrd = regexp.MustCompile(`(?m)^ *if initrd (.*); then$`)
	grubName   = regexp.MustCompile(`"\$tree/(\S+)"`)
	grubOwn    = regexp.MustCompile(`(?m)^ *configfile "\(tftp,127\.0\.0\.1\)/(\S+/grub\.cfg-01-)`)
	grubLeads  = regexp.MustCompile(`(?m)^ *configfile \(tftp,127\.0\.0\.1\)/(\S+)$`)
)

// menu reads GRUB's configuration and loads what it says.
func (b *mixBoot) menu(name string) (line string, err error) {
	text, err := b.fetch("configuration", name)
	if err != nil {
		return "", err
	}
	if m := grubOwn.FindSubmatch(text); m != nil {
		return b.menu(string(m[1]) + strings.ReplaceAll(b.mac.String(), ":", "-"))
	}
	if m := grubLeads.FindSubmatch(text); m != nil {
		return b.menu(string(m[1]))
	}
	kernel, initrd := grubLinux.FindSubmatch(text), grubInitrd.FindSubmatch(text)
	if kernel == nil || initrd == nil {
		return "", fmt.Errorf("%s boots nothing: %s", name, text)
	}
	var names []string
	for _, m := range grubName.FindAllSubmatch(initrd[1], -1) {
		names = append(names, string(m[1]))
	}
	// GRUB takes the tree from where it found the configuration.
	return string(kernel[2]), b.initrds(path.Dir(name)+"/", string(kernel[1]), names)
}

// shim is the signed shim and GRUB, of which only the first has a name of the tree
// when it knows where it came from; the GRUB looks for its configuration in a place
// that is built in.
func (b *mixBoot) shim(file string) (line string, err error) {
	if _, err := b.fetch("shim", file); err != nil {
		return "", err
	}
	b.delivered()
	next := path.Join(path.Dir(file), "grubx64.efi")
	if _, err := b.fetch("signed GRUB", next); err != nil {
		return "", err
	}
	return b.menu("/grub/grub.cfg")
}

// grub is firmware that is told GRUB: a core image of ours in BIOS, the signed one in
// UEFI.
func (b *mixBoot) grub(firmware asks) error {
	ack, err := b.dhcp(firmware)
	if err != nil {
		return err
	}
	var line string
	if file := bootFile(ack); firmware == askUEFI {
		line, err = b.shim(file)
	} else if _, err = b.fetch("core image", file); err == nil {
		line, err = b.menu(path.Dir(file) + "/grub.cfg-01-" + strings.ReplaceAll(b.mac.String(), ":", "-"))
	}
	if err != nil {
		return err
	}
	return b.system(line, true, firmware == askUEFI)
}

// proxiedGRUB is firmware that is told the signed GRUB beside another DHCP server.
func (b *mixBoot) proxiedGRUB() error {
	ack, err := b.proxied(askUEFI, true)
	if err != nil {
		return err
	}
	line, err := b.shim(bootFile(ack))
	if err != nil {
		return err
	}
	return b.system(line, false, true)
}

// foreignGRUB is firmware that another DHCP server sends to our signed GRUB.
func (b *mixBoot) foreignGRUB() error {
	line, err := b.shim("shimx64.efi")
	if err != nil {
		return err
	}
	return b.system(line, false, false)
}
