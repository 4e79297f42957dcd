package node

import (
	"fmt"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// voice is which of a machine's DHCP clients speaks. One boot is up to four of
// them: the ROM, iPXE, the initramfs, the operating system.
type voice int

const (
	voiceOS       voice = iota // no boot firmware: an initramfs or an operating system
	voiceFirmware              // the firmware's PXE or HTTP boot
	voiceIPXE                  // iPXE, chain-loaded or in the ROM
)

func voiceOf(vendor, class string) voice {
	switch {
	case strings.EqualFold(class, "iPXE"):
		return voiceIPXE
	case vendor == "PXEClient" || vendor == "HTTPClient":
		return voiceFirmware
	default:
		return voiceOS
	}
}

func (v voice) String() string {
	return [...]string{voiceOS: "system", voiceFirmware: "firmware", voiceIPXE: "iPXE"}[v]
}

// Boot implements provider.Sessions.
//
// A DISCOVER of firmware opens a session on the current generation, unless it can
// only be a retransmission: the open session was not acknowledged yet. A DISCOVER
// of iPXE continues the session that the firmware opened, until an iPXE has been
// acknowledged and has fetched a file; another one after that, or one without a
// session, is an iPXE in the ROM at the start of a boot. So a machine that was
// reset anywhere, or that found nothing to fetch, starts anew on the current
// generation, and one that is on its way stays on the one it was offered.
// Everything else continues the open session, if there is one.
//
// Opening a session costs an fsync, shared with others that open at the same time;
// continuing one costs none.
func (t *Tracker) Boot(c provider.Contact) (provider.Session, error) {
	now := t.now()
	v := voiceOf(c.Vendor, c.Class)
	if _, ok := c.MAC.Address(); ok {
		return provider.Session{}, nil // no network card has such an address
	}

	t.mu.Lock()
	m := t.machines[c.MAC]
	if m != nil {
		t.expire(m, now)
	}
	if v != voiceOS && opens(m, v, c.Discover) {
		m = t.open(c.MAC, &boot{Firmware: v == voiceFirmware}, now)
	}
	if m == nil || m.booting == nil {
		if m != nil {
			t.alive(m, now)
		}
		t.mu.Unlock()
		t.poke()
		return provider.Session{}, nil
	}
	b := m.booting
	t.alive(m, now)
	// An operating system that renews its lease is no sign that the boot goes on.
	if v != voiceOS || b.Root == nil {
		b.Seen = now
	}
	s := provider.Session{ID: b.ID, Generation: pin(b.Generation)}
	durable := b.durable
	t.mu.Unlock()

	if durable {
		t.poke()
		return s, nil
	}
	if err := t.save(c.MAC); err != nil {
		t.poke() // Run tries again
		return provider.Session{}, fmt.Errorf("boot session of %s: %w", c.MAC, err)
	}
	return s, nil
}

// opens reports whether what was heard starts a boot of m.
func opens(m *machine, v voice, discover bool) bool {
	if m == nil || m.booting == nil {
		return true
	}
	b := m.booting
	switch {
	case !discover:
		return false
	case v == voiceFirmware:
		return b.Acked || b.Fetched || b.ByFile
	case b.ByFile: // iPXE, and nobody heard its firmware: chain-loaded, until it has read its script
		return b.Script || b.hasKernel()
	case b.Firmware: // iPXE, and firmware came first: chain-loaded
		return b.IPXEFetched
	default: // iPXE in the ROM
		return b.Acked || b.Fetched
	}
}

// open starts b as the session of a machine, in the place of an open one, on the
// generation that is served or that an order keeps it on. It leaves the running boot
// alone. It gives nil when there is no room. The caller holds t.mu.
func (t *Tracker) open(mac provider.MAC, b *boot, now time.Time) *machine {
	m := t.admit(mac, now)
	if m == nil {
		return nil
	}
	m.visit = nil
	t.close(m)
	b.ID, b.Generation, b.Opened, b.Began, b.Seen = newID(), t.cfg.Pinned(mac), now, now.UTC(), now
	if b.Generation == 0 {
		b.Generation = t.cfg.Current()
	}
	m.booting = b
	t.startTimeline(m, b)
	t.touch(m)
	return m
}
