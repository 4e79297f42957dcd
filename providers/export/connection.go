package export

import (
	"strconv"
	"strings"

	"github.com/dlreconcile/dlreconcile/providers/export/cow"
)

// Overlays of keep = "connection": each connection has one of its own, which ends with
// it. A boot that wrote to one cannot connect again, as a fresh disk under a mounted
// file system is corruption; the retired record of the overlay says so.

const connectionInstance = "conn-" // and the boot, and a number

// connectionKey says which overlay a connection gets, and which connections it takes
// the place of. The caller holds p.mu.
func (p *Provider) connectionKey(boot cow.Key) (key cow.Key, before []*attachment, err error) {
	key = cow.Key{Machine: boot.Machine, Export: boot.Export}
	prefix := connectionInstance + boot.Instance + "."
	used := map[string]bool{}
	for _, r := range p.overlays.Of(key.Machine, key.Export) {
		if r.Retired && boot.Instance != staticInstance && strings.HasPrefix(r.Instance, prefix) {
			return key, nil, errWroteAndLeft
		}
		used[r.Instance] = true
	}
	for a := range p.conns {
		used[a.key.Instance] = true // its overlay may not be made yet
		if a.boot == boot && a.keeps == keepsConnection && named(boot.Instance) {
			before = append(before, a)
		}
	}
	for n := 1; key.Instance == "" || used[key.Instance]; n++ {
		key.Instance = prefix + strconv.Itoa(n)
	}
	return key, before, nil
}

var errWroteAndLeft = denied(`what this boot of the machine had written went with its connection, as the export says keep = "connection": it has to be booted again`)

// mayConnectAgain says why not, once the connections of before are gone.
func (p *Provider) mayConnectAgain(boot cow.Key) error {
	if boot.Instance == staticInstance {
		return nil
	}
	for _, r := range p.overlays.Of(boot.Machine, boot.Export) {
		if r.Retired && strings.HasPrefix(r.Instance, connectionInstance+boot.Instance+".") {
			return errWroteAndLeft
		}
	}
	return nil
}

// endConnection discards the overlay of a connection that is over. The record stays
// where something was written, but for who cannot be told from another boot.
func (p *Provider) endConnection(key, boot cow.Key, wrote bool) error {
	if r, ok := p.overlays.Lookup(key); ok && isRefused(r) || wrote && boot.Instance != staticInstance {
		p.overlays.Retire(key)
		return nil
	}
	if err := p.overlays.Remove(key); err != nil {
		p.overlays.Retire(key) // somebody looks at it
		return err
	}
	return nil
}

// endConnections does so for the connections of a process that is gone.
func (p *Provider) endConnections() error {
	for _, r := range p.overlays.List() {
		if r.Retired || recorded(r).keeps != keepsConnection {
			continue
		}
		wrote := p.overlays.Touched(r.Key)
		boot := cow.Key{Machine: r.Machine, Instance: bootOf(r), Export: r.Export}
		if err := p.endConnection(r.Key, boot, wrote); err != nil {
			return err
		}
	}
	return p.overlays.Sweep()
}
