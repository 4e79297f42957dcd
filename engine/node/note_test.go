package node

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Notes and events have one sequence, one form, and both come back as they were.
func TestNotesAmongEvents(t *testing.T) {
	l := newLab(t, func(c *Config) { c.FirstEvent = 1000 })
	l.Event(provider.Event{Kind: provider.EventPhone, Name: "userland", MAC: provider.MAC{2}})
	yes := false
	note := provider.Note{Kind: provider.NoteCondition, Revision: "abc", Generation: 7, Condition: "Ready", Status: &yes, Reason: "Refused", Message: "m"}
	l.Note(note)
	list, _ := l.Events(0)
	if len(list) != 2 || list[0].Seq != 1001 || list[1].Seq != 1002 || list[1].Kind != note.Kind {
		t.Fatalf("%+v", list)
	}
	b, err := json.Marshal(list[1])
	if err != nil {
		t.Fatal(err)
	}
	note.At = list[1].At
	if note.At.IsZero() {
		t.Error("a note without a time")
	}
	want := `{"seq":1002,"kind":"condition","at":"` + note.At.UTC().Format(time.RFC3339Nano) + `","revision":"abc","generation":7,"reason":"Refused","message":"m","condition":"Ready","status":false}`
	if string(b) != want {
		t.Errorf("%s\nwant %s", b, want)
	}
	for _, l := range list {
		b, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var again Logged
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l.Note, again.Note); diff != "" || again.Seq != l.Seq || again.Kind != l.Kind {
			t.Errorf("%s came back as %+v: %s", b, again, diff)
		}
	}
}

// Who reads too slowly, or comes from before a restart, is told what it missed.
func TestGapIsTold(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Events, c.FirstEvent = 4, 1000 })
	for range 10 {
		l.Note(provider.Note{Kind: provider.NoteTrouble})
	}
	for _, c := range []struct {
		since  uint64
		seqs   []uint64
		gap    bool
		missed uint64
	}{
		{0, []uint64{1007, 1008, 1009, 1010}, false, 0},
		{1006, []uint64{1007, 1008, 1009, 1010}, false, 0},
		{1008, []uint64{1009, 1010}, false, 0},
		{1010, []uint64{}, false, 0},
		{1002, []uint64{1006, 1007, 1008, 1009, 1010}, true, 4},
		{500, []uint64{1006, 1007, 1008, 1009, 1010}, true, 0},  // of the process before
		{2000, []uint64{1006, 1007, 1008, 1009, 1010}, true, 0}, // of one whose clock was ahead
	} {
		list, _ := l.Events(c.since)
		seqs := []uint64{}
		for _, e := range list {
			seqs = append(seqs, e.Seq)
		}
		if diff := cmp.Diff(c.seqs, seqs); diff != "" {
			t.Errorf("since %d: %s", c.since, diff)
		}
		gap := len(list) > 0 && list[0].Kind == provider.NoteGap
		if gap != c.gap || gap && list[0].Note.Missed != c.missed {
			t.Errorf("since %d: %+v", c.since, list[0])
		}
	}
}
