package sock

import "context"

// Want asks for sockets that are good to have and that nothing depends on: Run
// binds those of keys that are not bound, once, and serves them. failed is called
// with each that cannot be bound, by a goroutine that Run waits for. One that is slow to
// open holds up the others that are wanted, and nobody else.
// Want does not block. Retire applies to these sockets too, bound or not.
func (s *Set[K, S]) Want(keys []K, failed func(K, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		if s.socks[k] == nil {
			s.want[k] = failed
		}
	}
	s.poke()
}

// bindWanted binds what is wanted, until nothing is left that nobody is busy with. Run
// hears of each that is bound, as unlocked pokes it.
func (s *Set[K, S]) bindWanted(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.binding = false }()
	for ctx.Err() == nil {
		k, failed, ok := s.nextWanted()
		if !ok {
			return
		}
		sock, err := s.bindUnlocked(ctx, k)
		_, still := s.want[k]
		delete(s.want, k)
		switch {
		case ctx.Err() != nil && err != nil: // nobody wants it any more
		case err != nil:
			s.mu.Unlock()
			failed(k, err)
			s.mu.Lock()
		case !still:
			s.shut(k, sock)
		default:
			s.socks[k] = &entry[S]{sock: sock, space: namespace(), active: true}
		}
	}
}

// nextWanted gives one that nobody is busy with. The others have their turn when it is
// known what becomes of them.
func (s *Set[K, S]) nextWanted() (k K, failed func(K, error), ok bool) {
	for k, failed := range s.want {
		if s.socks[k] != nil {
			delete(s.want, k)
			continue
		}
		if s.busy[k] == nil {
			return k, failed, true
		}
	}
	return k, nil, false
}
