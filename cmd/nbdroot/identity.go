package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
)

// machineID gives the machine-id(5) of the machine with that boot interface: the
// same at every boot, from every image.
func machineID(mac net.HardwareAddr) string {
	sum := sha256.Sum256([]byte("dlreconcile machine " + mac.String()))
	return hex.EncodeToString(sum[:16])
}

// parseMAC reads a hardware address of Ethernet, in the spelling of BOOTIF= too.
func parseMAC(s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(normalMAC(s))
	if err != nil || len(mac) != 6 {
		return nil, fmt.Errorf("%q is not the hardware address of a boot interface", s)
	}
	return mac, nil
}

// setMachineID writes the machine-id, and D-Bus's where that is a file of its own.
func setMachineID(r *root, id string) error {
	err := r.write("/etc/machine-id", []byte(id+"\n"), attrs{mode: 0o444})
	if err == nil && r.regular("/var/lib/dbus/machine-id") {
		err = r.write("/var/lib/dbus/machine-id", []byte(id+"\n"), plain)
	}
	return err
}

// setHostname writes the name that the machine gives itself, and sees that it
// resolves without a network.
func setHostname(r *root, name string) error {
	if err := r.write("/etc/hostname", []byte(name+"\n"), plain); err != nil {
		return err
	}
	text, a, err := r.text("/etc/hosts")
	if err != nil {
		return err
	}
	return r.write("/etc/hosts", []byte(editHosts(text, name)), a)
}

// editHosts gives the 127.0.1.1 line the name, and adds one where there is none.
func editHosts(text, name string) string {
	line := "127.0.1.1\t" + name
	if short, _, full := strings.Cut(name, "."); full {
		line += "\t" + short
	}
	line += "\n"
	var b strings.Builder
	if text == "" {
		b.WriteString("127.0.0.1\tlocalhost\n")
	}
	done := false
	for l := range strings.Lines(text) {
		if f := strings.Fields(l); len(f) > 0 && f[0] == "127.0.1.1" {
			if done {
				continue
			}
			l, done = line, true
		}
		b.WriteString(l)
		if !strings.HasSuffix(l, "\n") {
			b.WriteByte('\n')
		}
	}
	if !done {
		b.WriteString(line)
	}
	return b.String()
}

// checkHostname refuses what is no host name (RFC 1123, section 2.1), or too long
// for Linux.
func checkHostname(name string) error {
	const maxHostname = 64 // HOST_NAME_MAX
	if len(name) == 0 || len(name) > maxHostname {
		return fmt.Errorf("a host name of %d bytes", len(name))
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return errors.New("not a host name: " + fmt.Sprintf("%q", name))
		}
	}
	return nil
}
