package export

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
)

// Overlays of keep = "connection": each connection has one of its own, which ends with
// it. A boot that wrote to one cannot connect again, as a fresh disk under a mounted
// file system is corruption; the retired record of the overlay says so. A client that
// names no boot cannot be told from itself after one, so that it is refused as one is
// whose disk was taken away: see tookAway.

const connectionInstance = "conn-" // and the boot, and a number

// connectionKey says which overlay a connection gets, and which connections it takes
// the place of. The caller holds p.mu.
func (p *Provider) connectionKey(boot cow.Key) (key cow.Key, before []*attachment, err error) {
	key = cow.Key{Machine: boot.Machine, Export: boot.Export}
	prefix := connectionInstance + boot.Instance + "."
	used := map[string]bool{}
	for _, r := range p.overlays.Of(key.Machine, key.Export) {
		if boot.Instance != staticInstance && saysWroteAndLeft(r, boot.Instance) {
			return key, nil, errWroteAndLeft
		}
		used[r.Instance] = true
	}
	for a := range p.conns {
		used[a.key.Instance] = true // its overlay may not be made yet
		if a.boot != boot || a.keeps != keepsConnection {
			continue
		}
		if named(boot.Instance) {
			before = append(before, a)
		} else if a.overlay != nil && a.overlay.Written() > 0 {
			// It may be this client's, that lost it, and that is not seen here yet.
			return key, nil, errWroteAndHas
		}
	}
	for n := 1; key.Instance == "" || used[key.Instance]; n++ {
		key.Instance = prefix + strconv.Itoa(n)
	}
	return key, before, nil
}

var errWroteAndLeft = denied(`what this boot of the machine had written went with its connection, as the export says keep = "connection": it has to be booted again`)

var (
	errWroteUnnamed = denied(`what it had written went with its connection, as the export says keep = "connection": it has to be booted again; where that cannot be seen from here, switch it off and give ` + "`dlreconcile image reset`")
	errWroteAndHas  = denied(`a connection from there has written to the export, which says keep = "connection", and is not over: another would have a fresh disk`)
)

// mayConnectAgain says why not, once the connections of before are gone.
func (p *Provider) mayConnectAgain(boot cow.Key, c provider.Client) error {
	if !named(boot.Instance) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if err := p.tookAway(target{}, boot, c, request{}); err != nil {
			return err
		}
	}
	if boot.Instance == staticInstance {
		return nil
	}
	for _, r := range p.overlays.Of(boot.Machine, boot.Export) {
		if saysWroteAndLeft(r, boot.Instance) {
			return errWroteAndLeft
		}
	}
	return nil
}

// endConnection discards the overlay of a connection that is over, and closes it first
// when o is not nil. The record stays where something was written.
func (p *Provider) endConnection(key, boot cow.Key, o *cow.Overlay) error {
	stays := p.wroteAndLeft(key, boot, o != nil && o.Written() > 0)
	if o != nil {
		o.Close() // after that, as Sweep leaves alone what is in use
	}
	if stays {
		return nil
	}
	return p.removeUnwritten(key)
}

// wroteAndLeft retires the overlay of a connection that is over, or is about to be, if
// something was written to it, and reports whether.
func (p *Provider) wroteAndLeft(key, boot cow.Key, wrote bool) bool {
	p.mu.Lock() // two that end at once would each make a list without the other
	defer p.mu.Unlock()
	r, ok := p.overlays.Lookup(key)
	if !wrote && !(ok && isRefused(r)) {
		return false
	}
	if !isRefused(r) && !named(boot.Instance) {
		p.overlays.Note(key, noteRefused, refusedLeft)
	}
	p.overlays.Note(key, noteSeen, p.now().UTC().Format(time.RFC3339))
	p.rememberWriters(key) // first: once it is retired, a Sweep may forget it
	p.overlays.Retire(key)
	return true
}

// removeUnwritten removes the overlay of a connection that wrote nothing. Where it cannot
// be removed now, as somebody looks at it or no file can be opened, Sweep does that later;
// its boot may connect again all the same.
func (p *Provider) removeUnwritten(key cow.Key) error {
	err := p.overlays.Remove(key)
	if err != nil {
		p.overlays.Note(key, noteUnwritten, "yes")
		p.overlays.Retire(key)
		p.overlays.Forget(key)
	}
	return err
}

// rememberWriters has the newest record that is kept list the boots of all of them, and of
// ends, which is about to be: the others are forgotten by and by. The caller holds p.mu.
func (p *Provider) rememberWriters(ends cow.Key) {
	kept := slices.DeleteFunc(p.overlays.Of(ends.Machine, ends.Export), func(r cow.Record) bool {
		return !r.Retired && r.Key != ends || r.Unreadable != nil || recorded(r).keeps != keepsConnection || r.Note[noteUnwritten] != ""
	})
	if len(kept) == 0 {
		return
	}
	slices.SortFunc(kept, func(a, b cow.Record) int { return a.Created.Compare(b.Created) })
	var marks []string
	for _, r := range kept {
		marks = append(marks, marksIn(r.Note[noteWrote])...)
	}
	for _, r := range kept {
		if named(bootOf(r)) {
			marks = append(marks, formerMark(bootOf(r)))
		}
	}
	seen := map[string]bool{}
	marks = slices.DeleteFunc(marks, func(m string) bool {
		had := seen[m]
		seen[m] = true
		return had
	})
	newest := kept[len(kept)-1]
	if list := strings.Join(marks[max(0, len(marks)-keepFormer):], ""); list != newest.Note[noteWrote] {
		p.overlays.Note(newest.Key, noteWrote, list)
	}
}

// saysWroteAndLeft reports whether a record says that a boot wrote to a connection of its
// own that is over.
func saysWroteAndLeft(r cow.Record, boot string) bool {
	if !r.Retired || r.Note[noteUnwritten] != "" {
		return false
	}
	list := r.Note[noteWrote]
	return strings.HasPrefix(r.Instance, connectionInstance+boot+".") || list != "" && slices.Contains(marksIn(list), formerMark(boot))
}

// endConnections does so for the connections of a process that is gone. What cannot be put
// on disk, because that is full, say, is tried again by and by, and by the next start; it
// keeps nobody else from being served.
func (p *Provider) endConnections() {
	for _, r := range p.overlays.List() {
		if r.Retired || recorded(r).keeps != keepsConnection {
			continue
		}
		boot := cow.Key{Machine: r.Machine, Instance: bootOf(r), Export: r.Export}
		if p.wroteAndLeft(r.Key, boot, p.overlays.Touched(r.Key)) {
			continue
		}
		if err := p.removeUnwritten(r.Key); err != nil {
			p.log.Error("the overlay of a connection of the process before cannot be removed", "overlay", r.Key.String(), "err", err)
		}
	}
	if err := p.overlays.Sweep(); err != nil {
		p.log.Error("overlays of former connections cannot be cleared away", "err", err)
	}
}
