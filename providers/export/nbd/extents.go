package nbd

// Mapper is a backend that knows where it has no bytes of its own.
type Mapper interface {
	// Extents calls yield for one piece of [off, off+length) after the other, from
	// off on, without gaps, until the end or until yield says false. A hole takes
	// no space and reads as zeros; whatever is not known for sure is none. yield may
	// wait for others to have their turn.
	Extents(off, length int64, yield func(length int64, hole bool) bool) error
}

// run is a range of bytes of one kind.
type run struct {
	length int64
	hole   bool
}

// maxPieces bounds how often a backend is asked on for one request: neighbours of
// one kind become one run, so most would not do it.
const maxPieces = 4096

// lengthOfPiece is how many bytes of one piece count as another one.
const lengthOfPiece = 4 << 20

// runsOf gives the first runs of [off, off+length), at most most, at least one.
// Neighbours differ. They may cover less than was asked for. The slice is good
// until the next call. A backend that cannot say has one run, of data.
func (w *worker) runsOf(off, length int64, most int) ([]run, error) {
	w.runs, w.most, w.left, w.asked = w.runs[:0], most, length, 0
	m, ok := w.exp.Backend.(Mapper)
	if !ok {
		w.runs = append(w.runs, run{length: length})
		return w.runs, nil
	}
	err := m.Extents(off, length, w.yield)
	// Some look at each block, also of what is one piece.
	w.out.had.pieces += w.asked + int((length-w.left)/lengthOfPiece)
	if err != nil || len(w.runs) == 0 {
		w.runs = append(w.runs[:0], run{length: length})
	}
	return w.runs, err
}

// addRun is what a Mapper is given for runsOf.
func (w *worker) addRun(n int64, hole bool) bool {
	w.asked++
	n = min(n, w.left)
	last := len(w.runs) - 1
	switch {
	case n <= 0:
		return false
	case last >= 0 && w.runs[last].hole == hole:
		w.runs[last].length += n
	case last+1 == w.most:
		return false
	default:
		w.runs = append(w.runs, run{n, hole})
	}
	w.left -= n
	if w.asked%turnPieces == 0 {
		if w.dropped.Load() {
			return false
		}
		w.letOthers()
	}
	return w.left > 0 && w.asked < maxPieces
}

// letOthers has all other connections that have asked for something have their turn.
func (w *worker) letOthers() {
	turn := w.turn
	if !w.patient {
		turn = w.myTurn
	}
	w.srv.turns.yield(turn)
}
