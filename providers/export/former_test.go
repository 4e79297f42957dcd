package export

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// bootNumber names boots in order.
func bootNumber(n int) string { return fmt.Sprintf("+fb34709d-1dc9-49f4-885f-%012x", 0xb00700+n) }

// A connection of a boot of long ago takes the disk from nobody, and ends nobody's boot.
func TestLateConnectionOfAnOldBoot(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepHost, schema.KeepBoot} {
		t.Run(string(keep), func(t *testing.T) {
			r := newRig(t)
			one, _ := r.artifact(1, 1<<20)
			r.commit(r.keeping(1, one, keep))
			name := nameOf("arch", one)
			const boots = 30
			var last *machine
			boot := func(n int) {
				before := last
				last = r.mustDial(name + bootNumber(n))
				last.write(1000, fmt.Sprintf("boot %4d", n))
				if before != nil {
					before.wantDropped("booted again")
				}
				if err := r.overlays.Sweep(); err != nil {
					t.Fatal(err)
				}
			}
			for n := range boots {
				boot(n)
			}
			late := func(when string) {
				t.Helper()
				for _, n := range []int{0, 1, boots / 2, boots - 2} {
					r.wantDenied(name+bootNumber(n), "that boot of the machine is over")
				}
				last.wantText(1000, fmt.Sprintf("boot %4d", boots-1), when)
			}
			late("beside late connections")
			r.restart()
			r.commit(r.keeping(1, one, keep))
			last = r.mustDial(name + bootNumber(boots-1))
			late("after a restart")
			r.wantData(1, "one machine")
			for _, rec := range r.overlays.List() {
				if rec.Retired && rec.Note[noteFormer] != "" {
					t.Errorf("%s is over, and has a list of %d characters", rec.Key, len(rec.Note[noteFormer]))
				}
			}

			// Over another artifact the list goes on.
			two, _ := r.artifact(2, 1<<20)
			r.commit(r.keeping(2, two, keep))
			name = nameOf("arch", two)
			boot(boots)
			for n := boots + 1; n < boots+12; n++ {
				boot(n)
			}
			for _, n := range []int{0, boots - 1, boots, boots + 3} {
				r.wantRefused(name+bootNumber(n), "of long ago")
			}
			last.wantText(1000, fmt.Sprintf("boot %4d", boots+11), "over another artifact")
		})
	}
}

// The list of former boots ends somewhere, in memory and in the record; what a record of
// an older release says counts.
func TestFormerBootsAreBounded(t *testing.T) {
	r := cow.Record{Key: cow.Key{Instance: "host-boot-old"}, Note: map[string]string{
		noteBoot: "boot-2", noteFormerNames: "boot-1 static", noteFormer: "cut off"}}
	if !hadFormerly(r, "boot-1") || !hadFormerly(r, "static") || hadFormerly(r, "boot-2") {
		t.Errorf("%q", formerBoots(r))
	}
	delete(r.Note, noteFormerNames)
	const boots = 2500
	for n := range boots {
		r.Note[noteFormer] = formerWith(r)
		r.Note[noteBoot] = "boot-" + strings.TrimPrefix(bootNumber(n), "+")
	}
	for n, want := range map[int]bool{boots - 1: false, boots - 2: true, boots - 1 - keepFormer: true, boots - 2 - keepFormer: false, 0: false} {
		if got := hadFormerly(r, "boot-"+strings.TrimPrefix(bootNumber(n), "+")); got != want {
			t.Errorf("boot %d: %v, want %v", n, got, want)
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const most = 64 << 10 // of a record that is believed
	if len(b) > most/4 {
		t.Errorf("a record has %d bytes", len(b))
	}
}

// Machines that never come back leave nothing: what they wrote goes first, and what says
// that their boots are over once nothing can ask for them any more.
func TestMachinesThatNeverComeBackLeaveNothing(t *testing.T) {
	r := newRig(t)
	one, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, one, schema.KeepBoot))
	name := nameOf("arch", one)
	for n := range 3 {
		r.mustDial(name+bootNumber(n)).write(0, "x")
	}
	last := r.mustDial(name + bootNumber(3))
	last.write(0, "x")
	records := func(want int, when string) {
		t.Helper()
		r.retire()
		r.wantData(min(want, 1), when)
		if got := len(r.overlays.List()); got != want {
			t.Errorf("%s: %d records, want %d", when, got, want)
		}
	}
	records(4, "attached")
	r.ahead.Add(int64(3 * goneAfter))
	records(1, "attached for months")
	last.gone(r)
	records(1, "gone")
	r.ahead.Add(int64(goneAfter + time.Hour))
	r.retire()
	r.wantData(0, "for a month")
	if got := r.overlays.List(); len(got) != 1 || !got[0].Retired {
		t.Errorf("for a month: %+v", got)
	}
	r.wantDenied(name+bootNumber(3), "that boot of the machine is over")
	r.ahead.Add(int64(goneAfter))
	records(0, "for two months")
	left, err := filepath.Glob(filepath.Join(r.state, "overlays", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
}

// A boot that wrote to a connection of its own gets no fresh disk later, however many
// boots wrote after it, and over a restart.
func TestConnectionsOfLongAgo(t *testing.T) {
	r := newRig(t)
	one, _ := r.artifact(1, 1<<20)
	commit := func() { r.commit(r.keeping(1, one, schema.KeepConnection)) }
	commit()
	name := nameOf("arch", one)
	const boots = 20
	for n := range boots {
		if n == boots/2 {
			r.restart()
			commit()
		}
		m := r.mustDial(name + bootNumber(n))
		m.write(1000, "written")
		m.flush()
		m.gone(r)
		if err := r.overlays.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	for _, when := range []string{"at once", "after a restart"} {
		for n := range boots {
			r.wantDenied(name+bootNumber(n), `keep = "connection"`)
		}
		if t.Failed() {
			t.Fatal(when)
		}
		r.restart()
		commit()
	}
	r.mustDial(name + bootNumber(boots))
}
