package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// A try to heal that failed is made again after healWait, which doubles up to
// healWaitMost.
const (
	healWait     = 15 * time.Second
	healWaitMost = time.Hour
)

// rebuild asks the loop to make what is served anew, and is answered once.
type rebuild struct {
	why   string
	reply chan Outcome // capacity 1
}

// errBusy says that a rebuild has to wait for an attempt that is under way.
var errBusy = errors.New("something else is being applied")

// retry looks again at what is lost: an attempt may have put it back. It looks at all
// when another generation is served.
func (w *watch) retry(ctx context.Context) {
	if gen := w.Generation(); gen != w.seen { // it may need files that nobody touched
		w.seen = gen
		w.look(ctx)
		return
	}
	if len(w.lost) == 0 {
		return
	}
	w.learn()
	for digest, list := range w.needed() {
		if w.lost[digest] != nil {
			w.examine(ctx, digest, list)
		}
	}
}

// heal puts right what can be. It tries one thing once, and again with back-off.
func (w *watch) heal(ctx context.Context) {
	if len(w.lost) == 0 {
		return
	}
	obs, err := w.observe(ctx)
	if err != nil {
		w.log.Error("drift: who uses what is lost", "error", err)
	}
	suspended := false
	if st, err := w.cfg.Store.State(); err == nil {
		suspended = st.Suspended != nil
	}
	var build []*lostBlob
	for _, digest := range slices.Sorted(maps.Keys(w.lost)) {
		l := w.lost[digest]
		l.on = runningOn(obs, digest)
		if suspended {
			l.heals, l.how = false, "nothing is healed while everything is suspended: `dlreconcile resume`"
			l.tried = time.Time{}
			continue
		}
		if w.isMade(digest) || !l.due(w.now()) {
			continue
		}
		if w.restore(ctx, l) {
			w.healed(l, "it was copied from the file that is being served")
			continue
		}
		if ctx.Err() != nil {
			return
		}
		w.shield(l)
		build = append(build, l)
	}
	w.make(build)
}

func (l *lostBlob) due(now time.Time) bool {
	return l.tried.IsZero() || now.Sub(l.tried) >= l.wait || now.Before(l.tried)
}

// failed notes that a try came to nothing.
func (l *lostBlob) failed(now time.Time, heals bool, how string) {
	l.heals, l.how = heals, how
	l.tried, l.wait = now, min(max(2*l.wait, healWait), healWaitMost)
}

// keepers gives the providers that keep files open.
func (w *watch) keepers() []provider.Keeper {
	var list []provider.Keeper
	for _, p := range w.cfg.Providers {
		if k, ok := p.(provider.Keeper); ok {
			list = append(list, k)
		}
	}
	return list
}

// restore puts back what some server still has open, and reports whether that went
// well. A file that was changed in its place is what the servers have.
func (w *watch) restore(ctx context.Context, l *lostBlob) bool {
	for _, k := range w.keepers() {
		f := k.KeptBlob(l.blob.Digest)
		if f == nil {
			continue
		}
		ok := w.restoreFrom(ctx, l, f)
		f.Close()
		if ok {
			return true
		}
	}
	return false
}

func (w *watch) restoreFrom(ctx context.Context, l *lostBlob, f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	if m := store.MarkOf(info); m.Device == l.mark.Device && m.Inode == l.mark.Inode {
		return false
	}
	err = w.cfg.Store.Content().Restore(ctx, l.blob, f)
	if err != nil {
		w.log.Error("drift: a blob cannot be restored from what is served", "digest", l.blob.Digest, "error", err)
	}
	return err == nil
}

// renew has every server read the sound file that is there now.
func (w *watch) renew(b provider.Blob) {
	for _, k := range w.keepers() {
		if err := k.RenewBlob(b); err != nil {
			w.log.Error("drift: a restored blob cannot be opened", "digest", b.Digest, "error", err)
		}
	}
}

// healed ends a drift, and writes that down.
func (w *watch) healed(l *lostBlob, how string) {
	w.renew(l.blob)
	delete(w.lost, l.blob.Digest)
	delete(w.marks, l.blob.Digest)
	if m, err := w.cfg.Store.Content().Mark(l.blob); err == nil {
		w.marks[l.blob.Digest] = m
		w.proved(l.blob.Digest, m)
	}
	w.write(l, how)
}

// write has the audit log say what was done about a lost blob.
func (w *watch) write(l *lostBlob, done string) {
	w.auditOrder(order{trigger: store.TriggerDrift, message: l.message(l.uses[0]) + "; " + done, hosts: l.on}, Outcome{Generation: w.Generation()})
}

// shield keeps bytes that nobody published from boots that begin from now on: servers
// that have them open serve them to nobody new, and a start does not find them.
func (w *watch) shield(l *lostBlob) {
	if l.kind != provider.DriftBlobChanged || l.mark == (store.Mark{}) {
		return
	}
	path, err := w.cfg.Store.Content().Path(l.blob.Digest)
	var info os.FileInfo
	if err == nil {
		info, err = os.Lstat(path)
	}
	if err != nil {
		return // it went meanwhile; the next look says so
	}
	for _, k := range w.keepers() {
		k.SpoilBlob(l.blob.Digest, info, errors.New(l.reason))
	}
	if err := w.cfg.Store.Content().SetAside(l.blob, l.mark); err != nil {
		w.log.Error("drift: a spoilt file stays where it is", "digest", l.blob.Digest, "error", err)
		return
	}
	w.write(l, "no boot is given it any more")
	l.mark = store.Mark{}
}

// making is what the loop was asked to make anew and has not answered yet.
type making struct {
	digests []string     // of the lost blobs that it is for
	reply   chan Outcome // capacity 1
}

// made gives the answer to what is under way; nil, which gives none, while nothing is.
func (w *watch) made() <-chan Outcome {
	if w.making == nil {
		return nil
	}
	return w.making.reply
}

// isMade reports whether a blob is being made anew.
func (w *watch) isMade(digest string) bool {
	return w.making != nil && slices.Contains(w.making.digests, digest)
}

// make asks the loop to make what the current generation lacks anew, by its recipe. It
// does not wait: that takes as long as a build, and somebody may want to know meanwhile
// what is lost. See finish.
func (w *watch) make(list []*lostBlob) {
	if w.making != nil {
		return // what is found meanwhile has its turn afterwards
	}
	m := &making{reply: make(chan Outcome, 1)}
	for _, l := range list {
		if why := w.beyond(l); why != "" {
			l.failed(w.now(), false, why)
			continue
		}
		l.heals, l.how = true, "it is being made anew by its recipe"
		m.digests = append(m.digests, l.blob.Digest)
	}
	if len(m.digests) == 0 {
		return
	}
	first := w.lost[m.digests[0]]
	w.drifts.rebuild <- rebuild{why: first.message(first.uses[0]), reply: m.reply} // one at a time has room
	w.making = m
}

// finish looks what came of making anew, and notes it where something is still lost.
func (w *watch) finish(ctx context.Context, out Outcome) {
	digests := w.making.digests
	w.making = nil
	w.look(ctx)
	for _, digest := range digests {
		l := w.lost[digest]
		if l == nil {
			continue // it is there again
		}
		why := w.beyond(l)
		switch f := out.Failure; {
		case f != nil && f.Message == errBusy.Error():
			l.failed(w.now(), true, "it is made anew once what is being applied is over")
			l.wait = healWait
		case f != nil:
			l.failed(w.now(), true, fmt.Sprintf("making it anew is tried again; it failed: %v", f))
		case why != "": // another artifact is served now
			l.failed(w.now(), false, why)
		default:
			l.failed(w.now(), true, "it was made anew, and is not there: that is tried again")
		}
	}
}

// beyond says why a blob is not made anew; "" when it can be.
func (w *watch) beyond(l *lostBlob) string {
	cur := w.Generation()
	remade := false
	for _, u := range l.uses {
		remade = remade || u.Generation == cur && !u.Address.IsZero()
	}
	switch {
	case !l.current(cur):
		return "only earlier generations need it, so it is not made again: machines on them keep what they have open, and get the current one at their next boot"
	case !remade:
		return "it is a file of the configuration, which is read only to go back to this generation: the next commit stores its own"
	case w.cfg.Source == nil:
		return "there is no repo to make it from: start the daemon with --repo"
	}
	return ""
}

// current reports whether a generation needs the blob.
func (l *lostBlob) current(generation uint64) bool {
	return slices.ContainsFunc(l.uses, func(u store.Use) bool { return u.Generation == generation })
}
