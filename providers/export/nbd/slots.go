package nbd

// slots bounds what is with disks at once and is not in a lane: writes, which take memory
// and come back at once unless the disk hangs, and syncs. Whoever is in a disk has a
// thread, and the runtime ends a process that has more than 10,000. Of one address there
// are no more than it has connections.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

// try takes a slot if one is to be had now; then leave is due.
func (s slots) try() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

// enter waits for a slot, or reports false when gone is closed first. leave is due for
// true.
func (s slots) enter(gone <-chan struct{}) bool {
	select {
	case s <- struct{}{}:
		return true
	case <-gone:
		return false
	}
}

func (s slots) leave() { <-s }
