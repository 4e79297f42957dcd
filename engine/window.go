package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a machine without the tz database knows the zones too

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

// lookAhead is for how many days an opening is looked for: the longest time between
// two of them is a week, and a day may be missing from a zone's calendar.
const lookAhead = 16

// openAt says whether one of the windows is open at t, and when not, when the next
// one opens; the zero time when none ever does. No windows are always open. unknown
// names a zone that this machine does not know; nil: it knows them all.
func openAt(windows []schema.Window, t time.Time) (open bool, next time.Time, unknown *hcl.Diagnostic) {
	if len(windows) == 0 {
		return true, next, nil
	}
	for i := range windows {
		loc, unknown := zone(&windows[i])
		if unknown != nil {
			return false, time.Time{}, unknown
		}
		for from, to := range openings(&windows[i], loc, t) {
			switch {
			case !from.After(t) && t.Before(to):
				return true, time.Time{}, nil
			case from.After(t) && (next.IsZero() || from.Before(next)):
				next = from
			}
		}
	}
	return false, next, nil
}

// openings gives the times at which w is open, from those that began the day before
// t. It begins when the clock of its zone first shows From, or a later time where a
// change of the clock leaves From out, and it ends likewise at To. So it begins once
// and ends once on each of its days, however the clock is changed: 02:00 to 03:00 may
// last two hours one day in autumn, and no time at all one day in spring.
func openings(w *schema.Window, loc *time.Location, t time.Time) func(func(from, to time.Time) bool) {
	return func(yield func(from, to time.Time) bool) {
		y, m, d := t.In(loc).Date()
		for n := -1; n <= lookAhead; n++ {
			day := time.Date(y, m, d+n, 0, 0, 0, 0, time.UTC) // a date of the calendar, no moment
			if len(w.Days) > 0 && !slices.Contains(w.Days, day.Weekday()) {
				continue
			}
			end := day.Add(w.To)
			if w.To <= w.From {
				end = end.AddDate(0, 0, 1)
			}
			from, to := firstShown(day.Add(w.From), loc), firstShown(end, loc)
			if from.Before(to) && !yield(from, to) {
				return
			}
		}
	}
}

// firstShown gives the first moment at which the clock of loc shows wall, or a later
// time. wall is in UTC.
func firstShown(wall time.Time, loc *time.Location) time.Time {
	// Clocks are at most 14 hours ahead, and were at most 16. Between two changes of
	// its offset a clock only goes forward.
	t := wall.Add(-26 * time.Hour).In(loc)
	for {
		_, offset := t.Zone()
		shown := wall.Add(-time.Duration(offset) * time.Second)
		if shown.Before(t) {
			return t // the change that begins here left wall out
		}
		_, end := t.ZoneBounds()
		if end.IsZero() || shown.Before(end) {
			return shown.In(loc)
		}
		t = end.In(loc)
	}
}

// zone finds the zone of a window, or says that nobody here knows it.
func zone(w *schema.Window) (*time.Location, *hcl.Diagnostic) {
	name := w.Zone
	if name == "" {
		name = "UTC"
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, &hcl.Diagnostic{
			Severity: hcl.DiagError,
			Summary:  fmt.Sprintf("Unknown time zone %q", name),
			Detail:   "The tz database that this machine has knows no zone of that name, so nobody can say when the window is open. Write one that it has, such as Europe/Berlin or UTC.",
			Subject:  new(w.Range.HCL()),
		}
	}
	return loc, nil
}

// UnknownZones refuses a policy whose windows could never be told to be open: nil means
// that this program knows the time zone of each. The diagnostics carry the window's range.
func UnknownZones(p *schema.Policy) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for i := range p.Windows {
		if _, unknown := zone(&p.Windows[i]); unknown != nil {
			diags = append(diags, unknown)
		}
	}
	return diags
}

// describeWindow says when a window is open: "mon, tue 22:00-06:00 Europe/Berlin".
func describeWindow(w *schema.Window) string {
	var b strings.Builder
	if len(w.Days) > 0 && len(w.Days) < 7 {
		for i, d := range w.Days {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(strings.ToLower(d.String()[:3]))
		}
		b.WriteByte(' ')
	}
	at := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute) }
	zone := w.Zone
	if zone == "" {
		zone = "UTC"
	}
	fmt.Fprintf(&b, "%s-%s %s", at(w.From), at(w.To), zone)
	return b.String()
}
