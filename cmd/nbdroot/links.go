package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// raiseLinks brings up the link with the given hardware address, or every
// Ethernet link when none is given, and waits until one of them has a carrier.
// klibc's ipconfig sends its first DISCOVER the moment it brings a link up, where
// it is lost, and waits seconds to send another; on a link that is up it is not.
func raiseLinks(mac string, wait time.Duration) error {
	want := normalMAC(mac)
	ready := map[string]bool{} // by the look before
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		links, err := net.Interfaces()
		if err != nil {
			return fmt.Errorf("links: %w", err)
		}
		carrier, err := carriers()
		if err != nil {
			return err
		}
		before := ready
		ready = map[string]bool{}
		for _, l := range links {
			if !matchLink(l, want) {
				continue
			}
			if l.Flags&net.FlagUp == 0 {
				if err := linkUp(l.Name); err != nil {
					return err
				}
			} else if carrier[l.Index] && l.Flags&net.FlagRunning != 0 {
				// Twice: the queues are started a moment after the carrier is
				// there, and what is sent before is dropped.
				if before[l.Name] {
					return nil
				}
				ready[l.Name] = true
			}
		}
		if time.Since(start) > wait {
			return fmt.Errorf("links: no carrier within %s", wait)
		}
	}
}

// carriers tells which links, by index, have a carrier. "Running" alone does not:
// for a moment after it is raised, every link is.
func carriers() (map[int]bool, error) {
	rib, err := syscall.NetlinkRIB(syscall.RTM_GETLINK, syscall.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	ms, err := parseMessages(rib)
	if err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	up := map[int]bool{}
	for _, m := range ms {
		// struct ifinfomsg: family, padding, type, index, flags, change mask.
		if m.typ == syscall.RTM_NEWLINK && len(m.body) >= syscall.SizeofIfInfomsg {
			index := int32(binary.NativeEndian.Uint32(m.body[4:]))
			up[int(index)] = binary.NativeEndian.Uint32(m.body[8:])&unix.IFF_LOWER_UP != 0
		}
	}
	return up, nil
}

// normalMAC takes the spelling of BOOTIF= too: "01-52-54-00-12-34-56", where 01 is
// the hardware type. GRUB, whose $net_default_mac has colons, makes of it
// "01-52:54:00:12:34:56"; initramfs-tools takes both, in lower case.
func normalMAC(s string) string {
	s = strings.ToLower(strings.ReplaceAll(s, "-", ":"))
	if len(s) == 20 {
		s = strings.TrimPrefix(s, "01:")
	}
	return s
}

func matchLink(l net.Interface, want string) bool {
	if l.Flags&net.FlagLoopback != 0 || len(l.HardwareAddr) != 6 {
		return false
	}
	return want == "" || l.HardwareAddr.String() == want
}

func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("links: %s: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("links: %s: %w", name, err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("links: %s: %w", name, err)
	}
	return nil
}
