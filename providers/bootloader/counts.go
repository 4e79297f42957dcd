package bootloader

import "sync/atomic"

// Transfers says what came of the files that were asked for by one protocol, so far.
type Transfers struct {
	Started uint64 // files that were opened for a client; over HTTP for HEAD too
	Done    uint64 // answers that were sent to their end, parts of a file among them
	Failed  uint64 // files that could not be opened, and answers that were broken off
	Bytes   uint64 // taken by clients
}

// transfers counts them.
type transfers struct{ started, done, failed, bytes atomic.Uint64 }

// opened is called before the client is answered, so that who was refused is counted.
func (t *transfers) opened(err error) {
	if err != nil {
		t.failed.Add(1)
		return
	}
	t.started.Add(1)
}

// ended is called for what was opened.
func (t *transfers) ended(bytes int64, err error) {
	if err != nil {
		t.failed.Add(1)
	} else {
		t.done.Add(1)
	}
	t.bytes.Add(uint64(max(0, bytes)))
}

func (t *transfers) sum() Transfers {
	return Transfers{t.started.Load(), t.done.Load(), t.failed.Load(), t.bytes.Load()}
}

// Transfers says what was served by each protocol, "tftp" and "http".
func (p *Provider) Transfers() map[string]Transfers {
	return map[string]Transfers{"tftp": p.sentTFTP.sum(), "http": p.sentHTTP.sum()}
}
