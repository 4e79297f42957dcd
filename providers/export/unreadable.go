package export

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Overlays whose record, or folder, cannot be read. Nobody gets one, and nobody who may
// have it mounted gets another disk in its place, until it is discarded by order. What is
// known of it is what its key says.

// place is what a key says of its overlay.
type place struct {
	keeps keeps  // keepsNothing: it does not say
	boot  string // that has it; "": nobody knows
}

func placed(k cow.Key) place {
	kept, isKept := strings.CutPrefix(k.Instance, keptInstance)
	conn, isConn := strings.CutPrefix(k.Instance, connectionInstance)
	switch {
	case k.Machine == workingCopy:
		return place{keeps: keepsCopy}
	case isKept && kept != "": // its boot made it, and another may have it now
		return place{keeps: keepsHost}
	case isConn:
		if i := strings.LastIndexByte(conn, '.'); i > 0 {
			return place{keepsConnection, conn[:i]}
		}
	case named(k.Instance), strings.HasPrefix(k.Instance, sessionInstance), k.Instance == staticInstance:
		return place{keepsBoot, k.Instance}
	}
	return place{}
}

// tells reports whether who had it is told apart from all who had not.
func (w place) tells() bool { return named(w.boot) }

// mayBeOf reports whether that boot of the machine may have it.
func (w place) mayBeOf(boot string) bool {
	switch {
	case w.boot == "" || w.boot == boot:
		return true
	case named(w.boot) || named(boot):
		return false
	}
	// Clients that name no boot: one has a session meanwhile, or its session is forgotten.
	return w.keeps == keepsConnection || w.boot == staticInstance || boot == staticInstance
}

// asks says who asked for an overlay that cannot be read, since the daemon was started.
type asks struct {
	at    time.Time // last
	from  netip.Addr
	boots string // their marks, newest first: see formerBoots
}

// cannotBeRead says why a client gets nothing that it could write to: its disk may be one
// that cannot be read, and it has no other. The caller holds p.mu.
func (p *Provider) cannotBeRead(t target, boot cow.Key, c provider.Client, q request, from netip.Addr) error {
	if t.mine {
		return nil
	}
	list := append(p.overlays.Of(boot.Machine, boot.Export), p.overlays.Of(workingCopy, boot.Export)...)
	var found error
	for _, r := range append(list, p.overlays.Shut()...) {
		copied := r.Machine == workingCopy
		switch {
		case r.Unreadable == nil, r.Machine != boot.Machine && !copied:
			continue
		case copied && t.keeps != keepsCopy && (c.Host.IsZero() || p.writerOf(boot.Export) != c.Host):
			continue
		case !placed(r.Key).mayBeOf(boot.Instance), p.hasOriginal(r):
			continue
		}
		found = p.whyUnread(r)
		if q.Looks {
			continue
		}
		a := p.asks[r.Key]
		if mark := formerMark(boot.Instance); named(boot.Instance) && !strings.HasPrefix(a.boots, mark) {
			a.boots = mark + a.boots
			a.boots = a.boots[:min(len(a.boots), keepFormer*formerSize)]
		}
		a.at, a.from = p.now(), from
		p.asks[r.Key] = a
	}
	return found
}

// hasOriginal reports whether an overlay that cannot be read is a copy of one that can be,
// and is there: that one is the machine's disk.
func (p *Provider) hasOriginal(r cow.Record) bool {
	of, found := p.overlays.Lookup(r.CopyOf)
	return found && of.Unreadable == nil
}

// whyUnread says why a client gets nothing instead of an overlay that cannot be read.
func (p *Provider) whyUnread(r cow.Record) error {
	return denied("it has a disk whose record cannot be read (%s): `dlreconcile image list` shows it, and `dlreconcile image reset --unreadable` discards it", p.fault(r))
}

// fault says why an overlay cannot be read, as somebody knows it who has its place: its ID.
func (p *Provider) fault(r cow.Record) string {
	return strings.ReplaceAll(r.Unreadable.Error(), p.overlays.Path(r.Key)+"/", "")
}

// asking says from where an overlay that cannot be read was asked for a short time ago: its
// machine is up, perhaps with the disk mounted. The caller holds p.mu.
func (p *Provider) asking(key cow.Key) netip.Addr {
	if a := p.asks[key]; p.now().Sub(a.at) < comesBack {
		return a.from
	}
	return netip.Addr{}
}

// writerOf gives the one host that a read-write export is for, in the newest generation
// that has it so; zero when none has.
func (p *Provider) writerOf(family string) schema.Addr {
	pub := p.pub.Load()
	for _, t := range order(pub, pub.Current) {
		if s := t.byFamily[family]; s != nil && s.Decl.Mode == schema.ReadWrite {
			for a := range s.allow {
				if a.Kind == "host" {
					return a
				}
			}
		}
	}
	return schema.Addr{}
}

// known completes a hardware address and a host by one another, as the current generation
// has them.
func (p *Provider) known(mac string, host schema.Addr) (string, schema.Addr) {
	t, ok := p.pub.Load().Of(0)
	switch {
	case !ok:
	case host.IsZero():
		host = t.byMAC[mac]
	case t.hosts[host] != nil:
		mac = cmp.Or(mac, t.hosts[host].MAC)
	}
	return mac, host
}

// foundUnread lists an overlay that cannot be read.
func (p *Provider) foundUnread(r cow.Record) found {
	w := placed(r.Key)
	f := found{key: r.Key, copied: r.CopyOf != cow.Key{}, Overlay: provider.Overlay{
		Machine: machineText(machineOf(r)), Export: r.Export, Keep: string(w.keeps), ID: r.Key.String(),
	}}
	if w.keeps == keepsCopy {
		f.Keep, f.Host = string(schema.ReadWrite), p.writerOf(r.Export)
	}
	f.Machine, f.Host = p.known(f.Machine, f.Host)
	if w.tells() {
		f.Boot = strings.TrimPrefix(w.boot, namedInstance)
	}
	f.Unreadable = p.fault(r)
	return f
}

// strayed reports whether something that cannot be read may be none of the daemon's: a copy,
// or what stands where it puts nothing. exports are those that it knows.
func (f found) strayed(exports map[string]bool) bool {
	return f.Unreadable != "" && f.key.Export != "" && (f.copied || placed(f.key).keeps == keepsNothing || !exports[f.key.Export])
}

// exports gives the names of those of all generations, and of those that there are disks over.
func (p *Provider) exports() map[string]bool {
	all := map[string]bool{}
	for _, t := range p.pub.Load().ByGen {
		for family := range t.byFamily {
			all[family] = true
		}
	}
	for _, r := range p.overlays.List() {
		if r.Unreadable == nil {
			all[r.Export] = true
		}
	}
	return all
}

// looksOurs reports whether a folder that cannot be opened has the name of a machine's.
func looksOurs(r cow.Record) bool {
	return machineText(machineOf(r)) != "" || r.Machine == workingCopy
}

// mostUnread is how many overlays that cannot be read Unread names.
const mostUnread = 3

// Unread implements provider.Unreader: what an overlay lies over only its record says. That
// of a copy does too; see Observe.
func (p *Provider) Unread() error {
	list := slices.DeleteFunc(p.overlays.Shut(), func(r cow.Record) bool { return !looksOurs(r) })
	list = append(list, slices.DeleteFunc(p.overlays.List(), func(r cow.Record) bool { return r.Unreadable == nil || r.CopyOf != cow.Key{} })...)
	if len(list) == 0 {
		return nil
	}
	var names []string
	for _, r := range list[:min(len(list), mostUnread)] {
		names = append(names, r.Key.String())
	}
	if more := len(list) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("nobody knows over which images these disks of machines lie, whose records cannot be read: %s; `dlreconcile image list` says why, and `dlreconcile image reset` discards them", strings.Join(names, ", "))
}

// notesUnread is what the record says that takes the place of one that cannot be read. The
// caller holds p.mu.
func (p *Provider) notesUnread(f found) map[string]string {
	w := placed(f.key)
	n := map[string]string{
		noteName: f.Export, noteHost: f.Host.String(), noteKeeps: string(w.keeps), noteUnread: "yes",
		noteFormer: p.asks[f.key].boots,
	}
	// Who made it had it once, and is late if another has it now.
	if made, ok := strings.CutPrefix(f.key.Instance, keptInstance); ok && made != staticInstance {
		list := formerMark(made) + n[noteFormer]
		n[noteFormer] = list[:min(len(list), keepFormer*formerSize)]
	}
	if w.keeps == keepsConnection {
		n[noteBoot] = w.boot
	}
	if w.keeps == keepsCopy && f.Machine != "" {
		n[noteMachine] = strings.ReplaceAll(f.Machine, ":", "-")
	}
	if !w.tells() {
		n[noteRefused] = refusedReset
	}
	return n
}
