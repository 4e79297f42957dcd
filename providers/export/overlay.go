package export

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
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

// overlayKey names the overlay that a client means.
func (p *Provider) overlayKey(r request, c provider.Client, addr netip.Addr) cow.Key {
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
// goes on with the overlay that it had last.
func (p *Provider) unnamedInstance(k cow.Key, session string) string {
	var last *cow.Record
	for _, r := range p.overlays.Of(k.Machine, k.Export) {
		if r.Retired || named(r.Key) ||
			session != "" && r.Note[noteSession] != session {
			continue
		}
		if last == nil || r.Created.After(last.Created) {
			last = &r
		}
	}
	switch {
	case last != nil:
		return last.Instance
	case session == "":
		return staticInstance
	case instanceName.MatchString(session):
		return sessionInstance + session
	}
	sum := sha256.Sum256([]byte(session))
	return sessionInstance + hex.EncodeToString(sum[:16])
}

func named(k cow.Key) bool { return strings.HasPrefix(k.Instance, namedInstance) }

// The notes of an overlay's record.
const (
	noteName       = "name" // wire name
	noteImage      = "image"
	noteHost       = "host"
	noteFilesystem = "filesystem"
	noteGeneration = "generation"
	noteSession    = "session" // that the machine had; "" when none was known
)

func notes(t target, c provider.Client) map[string]string {
	return map[string]string{
		noteName: t.Name, noteImage: t.Image.String(), noteHost: c.Host.String(),
		noteFilesystem: t.Filesystem, noteGeneration: strconv.FormatUint(t.Generation, 10),
		noteSession: c.Session,
	}
}

// recorded makes a target of what an overlay's record says, so that a machine
// finds its disk again although every generation that had the export is gone.
func recorded(r cow.Record) target {
	t := target{
		Name: r.Note[noteName], Family: r.Export, Mode: schema.CopyOnWrite,
		Root:       provider.Blob{Digest: r.Base.Digest, Size: r.Base.Size},
		Filesystem: r.Note[noteFilesystem],
	}
	// Written by notes; what does not parse stays zero, which is "not known".
	t.Image, _ = schema.ParseAddr(r.Note[noteImage])
	t.Generation, _ = strconv.ParseUint(r.Note[noteGeneration], 10, 64)
	return t
}

// overlayOf gives what an overlay lies over, if there is one.
func (p *Provider) overlayOf(key cow.Key) (target, bool) {
	rec, ok := p.overlays.Lookup(key)
	if !ok || rec.Retired {
		return target{}, false
	}
	return recorded(rec), true
}

// isOver reports whether the boot of overlay old is over, now that a client of
// that session is attached as the boot now, of the same machine. inUse says that
// old has a connection. See the package comment.
func isOver(old cow.Record, now cow.Key, session string, inUse bool) bool {
	if old.Retired || old.Instance == now.Instance {
		return false
	}
	if named(old.Key) {
		return named(now)
	}
	// Without names, sessions tell. A tool that is still at work beside a root,
	// or on another export, is left alone.
	beside := named(now) || old.Export != now.Export
	return session != "" && old.Note[noteSession] != session && !(beside && inUse)
}
