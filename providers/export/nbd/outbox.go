package nbd

// outbox gathers the replies of one worker, so that they go out together: headers, and
// payload that had to be copied, in lent buffers; payload that is in memory as it lies.
type outbox struct {
	to      *sender
	buffers *buffers
	form    form
	// held says that the owner holds to.mu, and sends by it.
	held bool

	parts   []part // whole replies, in order
	arenas  [maxArenas][]byte
	used    int // arenas; the last one is written to
	open    int // where the last part begins in the last arena; -1: it is not of it
	copied  int // bytes in arenas
	size    int // bytes in parts
	count   int // commits since the last flush
	payload int // bytes of size that are payload

	had turn // beside what is in parts; of the request loop
}

const (
	maxArenas = 4
	// gather bounds what is copied and held back for company.
	gather = 64 << 10
	// One call sends at most this many replies, and no more once there are so many
	// bytes.
	turnReplies = 64
	turnBytes   = 1 << 20
	// fairBytes are what a connection may send, or turnReplies, before others that have
	// asked for something have their turn.
	fairBytes = 256 << 10
)

// reserve gives room for need bytes, at most largeBuffer: whole replies, or whole
// chunks. commit adds it. What was reserved and not committed is overwritten.
func (o *outbox) reserve(need int) ([]byte, error) {
	if o.copied >= gather || o.used == maxArenas && !o.fits(need) {
		if err := o.flush(); err != nil {
			return nil, err
		}
	}
	if !o.fits(need) {
		o.arenas[o.used] = o.buffers.get(need)
		o.used++
		o.open = -1
	}
	a := o.arenas[o.used-1]
	return a[len(a) : len(a)+need : len(a)+need], nil
}

func (o *outbox) fits(need int) bool {
	if o.used == 0 {
		return false
	}
	a := o.arenas[o.used-1]
	return len(a)+need <= cap(a)
}

// commit adds n bytes of what reserve gave.
func (o *outbox) commit(n int) {
	a := o.arenas[o.used-1]
	end := len(a) + n
	if o.open < 0 {
		o.open = len(a)
		o.parts = append(o.parts, part{})
	}
	o.parts[len(o.parts)-1].b = a[o.open:end:end]
	o.arenas[o.used-1] = a[:end]
	o.copied += n
	o.size += n
	o.count++
}

// carried counts n bytes of what was committed as payload.
func (o *outbox) carried(n int) { o.payload += n }

// lend adds bytes as they lie, after what was committed.
func (o *outbox) lend(p part) {
	o.parts = append(o.parts, p)
	o.open = -1
	o.size += len(p.b)
	o.payload += len(p.b)
}

// turnOver reports whether what is pending is enough for one turn, or for one call. It is
// asked before each request, and so is turn.over: both are small enough to be inlined.
func (o *outbox) turnOver() bool {
	return o.count >= turnReplies || o.size >= turnBytes || len(o.parts) >= maxVector/2
}

// mayPause reports whether a turn that is over may end here. What is pending goes on
// gathering company, unless the next request may take long: a client that is gone is
// noticed when it is sent something.
func (o *outbox) mayPause() bool {
	return o.size == 0 || o.copied >= gather || o.had.pieces >= turnPieces
}

// reply adds a reply without payload.
func (o *outbox) reply(errno uint32, c command) error {
	b, err := o.reserve(headRoom)
	if err != nil {
		return err
	}
	o.commit(o.form.putAnswer(b, errno, c))
	return nil
}

// flush sends what is pending, and gives the buffers back: an idle connection lends
// none.
func (o *outbox) flush() error {
	if o.size == 0 {
		o.drop()
		return nil
	}
	defer o.drop()
	o.had.replies, o.had.bytes = o.had.replies+o.count, o.had.bytes+o.size
	if !o.held {
		o.to.mu.Lock()
		defer o.to.mu.Unlock()
	}
	o.to.sent(o.payload) // before the client can ask
	return o.to.send(o.parts)
}

// drop gives the buffers back, and forgets what is pending.
func (o *outbox) drop() {
	for i := range o.arenas[:o.used] {
		o.buffers.put(o.arenas[i])
		o.arenas[i] = nil
	}
	clear(o.parts)
	o.parts = o.parts[:0]
	o.used, o.open, o.copied, o.size, o.count, o.payload = 0, -1, 0, 0, 0, 0
}
