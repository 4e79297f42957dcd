package nbdprobe

import (
	"crypto/sha256"
	"hash"
	"sync"
)

// sequence gives out requests in order, and takes their bytes in any. At most window of
// them are out, or wait for one before them to be hashed.
type sequence struct {
	size   int64 // bytes in all
	each   int64 // bytes of a request, but the last
	window int64

	mu      sync.Mutex // guards all below
	room    sync.Cond  // something of it was done, or ended
	given   int64      // requests given out
	taken   int64      // requests that are done with, in order when hashed
	waiting map[int64][]byte
	free    [][]byte
	sum     hash.Hash // nil: nobody wants to know
	hashing bool      // somebody writes to sum, without mu
	ended   bool
}

func newSequence(size, each, window int64, hashed bool) *sequence {
	s := &sequence{size: size, each: each, window: window, waiting: map[int64][]byte{}}
	s.room.L = &s.mu
	if hashed {
		s.sum = sha256.New()
	}
	return s
}

// claim gives the next request, nil when there is none, or, with wait false, no room for
// it now.
func (s *sequence) claim(wait bool) *piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended && s.given*s.each < s.size && s.given-s.taken >= s.window {
		if !wait {
			return nil
		}
		s.room.Wait()
	}
	at := s.given * s.each
	if s.ended || at >= s.size {
		return nil
	}
	p := &piece{index: s.given, offset: at, buf: s.buffer()[:min(s.each, s.size-at)]}
	s.given++
	return p
}

// buffer gives one of each bytes. The caller holds mu.
func (s *sequence) buffer() []byte {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return make([]byte, s.each)
}

// done takes the bytes of a request.
func (s *sequence) done(p *piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sum == nil {
		s.taken++
		s.free = append(s.free, p.buf[:s.each])
		s.room.Signal()
		return
	}
	s.waiting[p.index] = p.buf
	if s.hashing {
		return // who hashes comes to it
	}
	s.hashing = true
	for b, ok := s.waiting[s.taken]; ok; b, ok = s.waiting[s.taken] {
		delete(s.waiting, s.taken)
		s.mu.Unlock()
		s.sum.Write(b)
		s.mu.Lock()
		s.taken++
		s.free = append(s.free, b[:s.each])
		s.room.Broadcast()
	}
	s.hashing = false
}

// end lets nobody wait any more.
func (s *sequence) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.room.Broadcast()
}
