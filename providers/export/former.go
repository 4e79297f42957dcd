package export

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/dlreconcile/dlreconcile/providers/export/cow"
)

// Boots that are over. A connection of one may be late by any number of boots, and
// must neither take a disk from a newer boot nor get a fresh one, whose attaching would
// end the newer one's. Retired records say so of the last few; of the boots before
// them, a list does that goes from each overlay to the one after it.

// keepFormer is how many boots are on that list: at formerSize characters each, a sixth
// of what a record may take.
const keepFormer = 1000

// formerSize is the length of a boot's mark: eight bytes of a hash, in characters.
const formerSize = 11

// formerMark stands for a boot in the list. Were the marks of two boots of a machine the
// same, which nobody will see, then the later one would be refused its disk.
func formerMark(boot string) string {
	sum := sha256.Sum256([]byte(boot))
	return base64.RawURLEncoding.EncodeToString(sum[:8])
}

// marksIn takes a list apart.
func marksIn(list string) (marks []string) {
	for ; len(list) >= formerSize; list = list[formerSize:] {
		marks = append(marks, list[:formerSize])
	}
	return marks
}

// formerBoots gives the marks of the boots that had an overlay before the one that has
// it now, newest first, one after the other.
func formerBoots(r cow.Record) string {
	list := r.Note[noteFormer]
	list = list[:len(list)/formerSize*formerSize]
	// Records once had the boots themselves, and not more than 16.
	for _, boot := range strings.Fields(r.Note[noteFormerNames]) {
		list += formerMark(boot)
	}
	return list
}

// hadFormerly reports whether a boot is among formerBoots.
func hadFormerly(r cow.Record, boot string) bool {
	list := formerBoots(r)
	if list == "" {
		return false
	}
	mark := formerMark(boot)
	for ; list != ""; list = list[formerSize:] {
		if list[:formerSize] == mark {
			return true
		}
	}
	return false
}

// formerWith is the list of what comes after that overlay.
func formerWith(r cow.Record) string {
	list := formerMark(bootOf(r)) + formerBoots(r)
	return list[:min(len(list), keepFormer*formerSize)]
}

// succeed notes that the boot that has an overlay will have it no more. r is its record
// of before that. The caller holds p.mu.
func (p *Provider) succeed(r cow.Record) {
	p.overlays.Note(r.Key, noteFormer, formerWith(r))
	p.overlays.Note(r.Key, noteFormerNames, "")
}

// inherited is the list for an overlay if it is made anew: it comes after the newest one
// that is kept so for the same machine and export.
func (p *Provider) inherited(key cow.Key, k keeps) string {
	var last *cow.Record
	for _, r := range p.overlays.Of(key.Machine, key.Export) {
		if recorded(r).keeps == k && r.Unreadable == nil && (last == nil || r.Created.After(last.Created)) {
			last = &r
		}
	}
	if last == nil {
		return ""
	}
	return formerWith(*last)
}

// forgotten reports whether a boot is over whose own record is gone. The caller holds
// p.mu.
func (p *Provider) forgotten(boot cow.Key) bool {
	if _, found := p.overlays.Lookup(boot); found || boot.Instance == staticInstance {
		return false
	}
	for _, r := range p.overlays.Of(boot.Machine, boot.Export) {
		if hadFormerly(r, boot.Instance) {
			return true
		}
	}
	return false
}

var errBootOver = denied("that boot of the machine is over: it was booted again since, and what it had written is gone")
