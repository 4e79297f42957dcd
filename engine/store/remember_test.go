package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is remembered changes with the generation, in the same step, and stays over
// the next one and a restart.
func TestRecordRemembers(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := Memory{
		Trusted:     "aa",
		TrustedBy:   "tip",
		Quarantined: []Quarantine{{Revision: "bb", Reason: "reverted", Stage: "idle", Message: "m", Since: at}}, Failed: &Held{Revision: "bb"},
		Suspended:      &Suspension{Reason: "r", By: Actor{Via: ViaSocket}, Since: at},
		SuspendedHosts: map[string]Suspension{"host.ws01": {Generation: 1, Since: at}},
		Try:            &Try{Generation: 2, Back: 1, Revision: "cc", Deadline: at, Held: &Held{Revision: "dd"}},
	}
	mustRecord(t, s, sampleRecord(1))
	if err := s.Record(sampleRecord(2), func(m *Memory) { *m = want }); err != nil {
		t.Fatal(err)
	}
	mustRecord(t, s, sampleRecord(3))
	// One that is refused changes nothing.
	wrong := sampleRecord(4)
	wrong.Number = 9
	if err := s.Record(wrong, func(m *Memory) { *m = Memory{} }); err == nil {
		t.Error("no error")
	}
	for range 2 {
		st, err := s.State()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, st.Memory); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, Options{})
	}
}
