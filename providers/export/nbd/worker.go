package nbd

// worker answers requests of one connection, one at a time. The request loop is one;
// READs that wait for a disk have others (see slowReads).
type worker struct {
	*transmission
	out outbox
	// patient says that it may wait for a disk.
	patient bool
	turn    chan struct{} // see lanes.enter; nil if not patient

	pieces []part // of the request in progress; see lent
	cuts   []int  // and how many of them each run of data has
	runs   []run  // and runsOf
	most   int    // of runs
	left   int64  // bytes that runs do not cover yet
	asked  int    // pieces that a Mapper told
	yield  func(length int64, hole bool) bool
}

func newWorker(t *transmission, patient bool) *worker {
	w := &worker{transmission: t, patient: patient}
	w.out = outbox{to: t.to, buffers: &t.srv.buffers, form: t.form, held: patient, open: -1}
	w.yield = w.addRun // made once: each one is an allocation
	return w
}

// waits reports whether a READ may have to wait for a disk, and has to do so
// elsewhere.
func (w *worker) waits() bool { return !w.patient && w.mayWait }

// readNow fills b if that does not wait.
func (w *worker) readNow(b []byte, off int64) bool {
	return w.now != nil && w.now.ReadNow(b, off)
}
