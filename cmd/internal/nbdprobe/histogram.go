package nbdprobe

import (
	"math/bits"
	"time"
)

// Histogram counts durations, to about 3 %, in bounded memory. The zero value has none.
type Histogram struct {
	counts [64 * perOctave]uint64
	n      uint64
	max    time.Duration
}

// perOctave is into how many a doubling is divided.
const perOctave = 32

func (h *Histogram) add(d time.Duration) {
	h.counts[slot(d)]++
	h.n++
	h.max = max(h.max, d)
}

func (h *Histogram) merge(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// slot numbers durations: those below perOctave by themselves, the others by their
// highest bit and the five behind it.
func slot(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < perOctave {
		return int(v)
	}
	top := bits.Len64(v) - 1
	return (top-4)*perOctave + int(v>>(top-5))&(perOctave-1)
}

// ceiling gives the longest duration of a slot.
func ceiling(i int) time.Duration {
	if i < perOctave {
		return time.Duration(i)
	}
	top := i/perOctave + 4
	return time.Duration(uint64(perOctave+i%perOctave+1)<<(top-5) - 1)
}

// Quantile gives what a share of the durations, from 0 to 1, are not longer than; 0 when
// there are none.
func (h *Histogram) Quantile(share float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	want := max(1, uint64(share*float64(h.n)+0.5))
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= want {
			return min(ceiling(i), h.max)
		}
	}
	return h.max
}

// Max gives the longest.
func (h *Histogram) Max() time.Duration { return h.max }

// Count says how many there are.
func (h *Histogram) Count() uint64 { return h.n }
