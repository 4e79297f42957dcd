package nbd

import "github.com/pojntfx/go-nbd/pkg/protocol"

// Cacher is a backend that can get bytes ready before they are read.
type Cacher interface {
	// Cache begins to fetch [off, off+length), at best without waiting for it.
	Cache(off, length int64) error
}

// cache is NBD_CMD_CACHE. It is advice: what a backend cannot do, or fails to, is
// no error to the client, and no more than maxPayload is fetched for one request.
func (t *transmission) cache(c command) error {
	if t.form == simple || c.flags&^cmdFlagFUA != 0 || !t.inside(c) {
		return t.main.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
	}
	if backend, ok := t.exp.Backend.(Cacher); ok && c.length > 0 {
		if err := backend.Cache(int64(c.offset), int64(min(c.length, maxPayload))); err != nil {
			t.log.Debug("nbd: caching failed", "export", t.exp.Name, "err", err)
		}
	}
	return t.main.out.reply(errnoNone, c)
}
