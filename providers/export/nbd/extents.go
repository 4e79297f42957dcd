package nbd

// Mapper is a backend that knows where it has no bytes of its own.
type Mapper interface {
	// Extents calls yield for one piece of [off, off+length) after the other, from
	// off on, without gaps, until the end or until yield says false. A hole takes
	// no space and reads as zeros; whatever is not known for sure is none.
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

// runsOf gives the first runs of [off, off+length), at most most, at least one.
// Neighbours differ. They may cover less than was asked for. The slice is good
// until the next call. A backend that cannot say has one run, of data.
func (t *transmission) runsOf(off, length int64, most int) ([]run, error) {
	t.runs = t.runs[:0]
	m, ok := t.exp.Backend.(Mapper)
	if !ok {
		t.runs = append(t.runs, run{length: length})
		return t.runs, nil
	}
	left, pieces := length, 0
	err := m.Extents(off, length, func(n int64, hole bool) bool {
		pieces++
		n = min(n, left)
		last := len(t.runs) - 1
		switch {
		case n <= 0:
			return false
		case last >= 0 && t.runs[last].hole == hole:
			t.runs[last].length += n
		case last+1 == most:
			return false
		default:
			t.runs = append(t.runs, run{n, hole})
		}
		left -= n
		return left > 0 && pieces < maxPieces
	})
	if err != nil || len(t.runs) == 0 {
		t.runs = append(t.runs[:0], run{length: length})
	}
	return t.runs, err
}
