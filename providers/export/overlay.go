package export

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Instances, as keys of overlays. The prefix says who named it, so that a client
// cannot name the boot session of another way in.
const (
	namedInstance   = "boot-"    // by the client
	sessionInstance = "session-" // by its boot session
	staticInstance  = "static"   // nobody: the machine never booted from here
)

// machineKey names a machine in keys of overlays.
func machineKey(c provider.Client, addr netip.Addr) string {
	if !c.MAC.IsZero() {
		return strings.ReplaceAll(c.MAC.String(), ":", "-")
	}
	return "ip-" + strings.ReplaceAll(addr.String(), ":", "-")
}

// bootKey says which boot of which machine a client is of, on which export: the key
// of its overlay where that lives as long as the boot does.
func (p *Provider) bootKey(r request, c provider.Client, addr netip.Addr) cow.Key {
	k := cow.Key{Machine: machineKey(c, addr), Export: r.Family}
	if r.Instance != "" {
		k.Instance = namedInstance + r.Instance
	} else {
		k.Instance = p.unnamedInstance(k, c.Session)
	}
	return k
}

// unnamedInstance says which boot a client is that names none: the one of its
// session. When no session is known, nothing says that it was rebooted, so it
// goes on with the overlay that it had last, of those that can be read.
func (p *Provider) unnamedInstance(k cow.Key, session string) string {
	var last *cow.Record
	for _, r := range p.overlaysOf(k.Machine, k.Export) {
		if r.Retired || r.Unreadable != nil || named(bootOf(r)) || session != "" && r.Note[noteSession] != session {
			continue
		}
		if last == nil || r.Created.After(last.Created) {
			last = &r
		}
	}
	switch {
	case last != nil:
		return bootOf(*last)
	case session == "":
		return staticInstance
	case instanceName.MatchString(session):
		return sessionInstance + session
	}
	sum := sha256.Sum256([]byte(session))
	return sessionInstance + hex.EncodeToString(sum[:16])
}

// named reports whether a client named that boot.
func named(boot string) bool { return strings.HasPrefix(boot, namedInstance) }

// bootOf says which boot has an overlay, or had it last.
func bootOf(r cow.Record) string {
	if boot := r.Note[noteBoot]; boot != "" {
		return boot
	}
	return r.Instance
}

// overlaysOf gives the overlays of an export that a machine may have: its own, and
// the working copy of the export, which is one machine's too.
func (p *Provider) overlaysOf(machine, family string) []cow.Record {
	list := append(p.overlays.Of(machine, family), p.overlays.Of(workingCopy, family)...)
	return slices.DeleteFunc(list, func(r cow.Record) bool {
		return holder(r) != machine && !(holder(r) == "" && r.Note[noteUnread] != "") // it may have been anybody's
	})
}

// concerned gives the overlays that attaching to an export may have said something of: the
// machine's, and the export's working copies, which may have been another card's. Those of
// other machines are none of its business, whatever is wrong with them.
func (p *Provider) concerned(machine, family string) []cow.Key {
	var keys []cow.Key
	for _, r := range append(p.overlaysOf(machine, ""), p.overlays.Of(workingCopy, family)...) {
		if !slices.Contains(keys, r.Key) {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// holder says which machine has an overlay, as in keys.
func holder(r cow.Record) string {
	if r.Machine == workingCopy {
		return r.Note[noteMachine]
	}
	return r.Machine
}

// machineOf says whose an overlay is: by hardware address, which is zero where only
// the machine's IP address is known.
func machineOf(r cow.Record) (mac provider.MAC, addr netip.Addr) {
	text := strings.ReplaceAll(holder(r), "-", ":")
	if ip, found := strings.CutPrefix(text, "ip:"); found {
		addr, _ = netip.ParseAddr(ip) // written by machineKey
		return mac, addr
	}
	if m, err := provider.ParseMAC(text); err == nil {
		if a, nameless := m.Address(); nameless {
			return mac, a
		}
		mac = m
	}
	return mac, addr
}

// machineText spells what machineOf gives; "" for neither.
func machineText(mac provider.MAC, addr netip.Addr) string {
	switch {
	case !mac.IsZero():
		return mac.String()
	case addr.IsValid():
		return addr.String()
	}
	return ""
}

// The notes of an overlay's record.
const (
	noteName       = "name" // wire name
	noteImage      = "image"
	noteHost       = "host"
	noteFilesystem = "filesystem"
	noteGeneration = "generation"
	noteSession    = "session" // that the machine had; "" when none was known
	noteKeeps      = "keep"    // a keeps; "" is keepsBoot
	noteBoot       = "boot"    // that has it, where that is not the key's instance
	noteFormer     = "had"     // marks of the boots that had it before; see formerBoots
	noteWrote      = "wrote"   // marks of boots that wrote to such connections; see rememberWriters
	noteUnwritten  = "clean"   // "yes": of such a connection, to which nothing was written
	noteLimit      = "limit"   // bytes, when it was made; "": none
	noteSeen       = "seen"    // when its last connection ended, RFC 3339
	noteMachine    = "machine" // that has a working copy, as in keys
	noteRefused    = "refused" // refusedReset or refusedLeft: see isRefused
	noteUnread     = "unread"  // "yes": its record could not be read when it was discarded

	noteFormerNames = "former" // what noteFormer was: boots, apart by spaces
)

func notes(t target, c provider.Client, boot cow.Key) map[string]string {
	n := map[string]string{
		noteName: t.Name, noteImage: t.Image.String(), noteHost: c.Host.String(),
		noteFilesystem: t.Filesystem, noteGeneration: strconv.FormatUint(t.Generation, 10),
		noteSession: c.Session, noteKeeps: string(t.keeps),
	}
	if t.keeps != keepsBoot {
		n[noteBoot] = boot.Instance
	}
	if t.keeps == keepsCopy {
		n[noteMachine] = boot.Machine
	}
	if t.limit > 0 {
		n[noteLimit] = strconv.FormatInt(t.limit, 10)
	}
	return n
}

// recorded makes a target of what an overlay's record says, so that a machine
// finds its disk again although every generation that had the export is gone.
func recorded(r cow.Record) target {
	t := target{
		Name: r.Note[noteName], Family: r.Export, keeps: keeps(r.Note[noteKeeps]),
		Root:       provider.Blob{Digest: r.Base.Digest, Size: r.Base.Size},
		Filesystem: r.Note[noteFilesystem],
	}
	if t.keeps == keepsNothing { // made before there was another
		t.keeps = keepsBoot
	}
	// Written by notes; what does not parse stays zero, which is "not known".
	t.Image, _ = schema.ParseAddr(r.Note[noteImage])
	t.Generation, _ = strconv.ParseUint(r.Note[noteGeneration], 10, 64)
	t.limit, _ = strconv.ParseInt(r.Note[noteLimit], 10, 64)
	return t
}

// overlayOf gives what the overlay of a boot lies over, if it has one that it may
// come back to.
func (p *Provider) overlayOf(boot cow.Key) (target, bool) {
	for _, r := range p.overlaysOf(boot.Machine, boot.Export) {
		if !r.Retired && r.Unreadable == nil && bootOf(r) == boot.Instance {
			if t := recorded(r); t.keeps != keepsConnection {
				return t, true
			}
		}
	}
	return target{}, false
}

// isOver reports whether overlay old is of no use any more, now that a client of that
// session is attached as the boot now, of the same machine, to overlay key. inUse says
// that old has a connection. See the package comment.
func isOver(old cow.Record, now, key cow.Key, session string, inUse bool) bool {
	if old.Retired || old.Key == key || bootOf(old) == now.Instance {
		return false
	}
	if old.Unreadable != nil {
		return false // nobody knows what it waits for
	}
	if k := recorded(old).keeps; (k == keepsHost || k == keepsCopy) && old.Export != now.Export {
		return false // it waits for a boot from that export
	}
	if named(bootOf(old)) {
		return named(now.Instance)
	}
	// Without names, sessions tell. A tool that is still at work beside a root,
	// or on another export, is left alone.
	beside := named(now.Instance) || old.Export != now.Export
	return session != "" && old.Note[noteSession] != session && !(beside && inUse)
}
