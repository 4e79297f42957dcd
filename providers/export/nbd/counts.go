package nbd

import "sync/atomic"

// Counts says what a server did so far.
type Counts struct {
	Connections uint64 // that were taken, whatever became of them
	Refused     uint64 // that were not, or lost their place to others before they attached: too many
	Read        uint64 // bytes sent as payload
	Written     uint64 // bytes of payload written
}

type counts struct{ connections, refused, read, written atomic.Uint64 }

// Counts says what the server did so far.
func (s *Server) Counts() Counts {
	return Counts{s.counts.connections.Load(), s.counts.refused.Load(), s.counts.read.Load(), s.counts.written.Load()}
}
