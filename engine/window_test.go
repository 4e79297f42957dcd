package engine

import (
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/schema"
)

func window(from, to, zone string, days ...time.Weekday) schema.Window {
	at := func(s string) time.Duration {
		t, err := time.Parse("15:04", s)
		if err != nil {
			panic(err)
		}
		return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	return schema.Window{Days: days, From: at(from), To: at(to), Zone: zone, Range: schema.Range{File: "site.hcl", Line: 2, Column: 3}}
}

func TestWindows(t *testing.T) {
	weekdays := []time.Weekday{1, 2, 3, 4, 5}
	for name, c := range map[string]struct {
		windows []schema.Window
		at      string
		open    bool
		next    string
	}{
		"none":                       {nil, "2026-11-22T12:00:00Z", true, ""},
		"at its first moment":        {[]schema.Window{window("22:00", "23:00", "")}, "2026-11-22T22:00:00Z", true, ""},
		"before":                     {[]schema.Window{window("22:00", "23:00", "")}, "2026-11-22T21:59:59Z", false, "2026-11-22T22:00:00Z"},
		"at its end":                 {[]schema.Window{window("22:00", "23:00", "")}, "2026-11-22T23:00:00Z", false, "2026-11-23T22:00:00Z"},
		"over midnight":              {[]schema.Window{window("22:00", "06:00", "")}, "2026-11-22T05:59:59Z", true, ""},
		"the day of its begin":       {[]schema.Window{window("22:00", "06:00", "", time.Friday)}, "2026-11-21T05:00:00Z", true, ""}, // Saturday
		"not the day after":          {[]schema.Window{window("22:00", "06:00", "", time.Friday)}, "2026-11-21T22:30:00Z", false, "2026-11-27T22:00:00Z"},
		"a whole day":                {[]schema.Window{window("08:00", "08:00", "", time.Sunday)}, "2026-11-23T07:59:59Z", true, ""},
		"in its zone":                {[]schema.Window{window("22:00", "23:00", "Europe/Berlin")}, "2026-11-22T21:30:00Z", true, ""},
		"in its zone in summer":      {[]schema.Window{window("22:00", "23:00", "Europe/Berlin")}, "2026-07-22T20:30:00Z", true, ""},
		"the weekday of its zone":    {[]schema.Window{window("08:00", "10:00", "Pacific/Auckland", time.Monday)}, "2026-11-22T19:30:00Z", true, ""},
		"the nearest of two":         {[]schema.Window{window("22:00", "23:00", "", weekdays...), window("03:00", "04:00", "")}, "2026-11-22T12:00:00Z", false, "2026-11-23T03:00:00Z"},
		"the clock goes forward":     {[]schema.Window{window("02:30", "04:00", "Europe/Berlin")}, "2026-03-29T00:59:59Z", false, "2026-03-29T03:00:00+02:00"},
		"left out altogether":        {[]schema.Window{window("02:00", "03:00", "Europe/Berlin")}, "2026-03-29T01:00:00Z", false, "2026-03-30T02:00:00+02:00"},
		"the clock goes back":        {[]schema.Window{window("02:00", "03:00", "Europe/Berlin")}, "2026-10-25T01:59:59Z", true, ""},
		"not again":                  {[]schema.Window{window("02:00", "02:30", "Europe/Berlin")}, "2026-10-25T01:15:00Z", false, "2026-10-26T02:00:00+01:00"},
		"once at its end":            {[]schema.Window{window("01:00", "02:30", "Europe/Berlin")}, "2026-10-25T01:00:00Z", false, "2026-10-26T01:00:00+01:00"},
		"the clock goes at midnight": {[]schema.Window{window("00:00", "01:30", "America/Havana")}, "2026-03-08T04:59:59Z", false, "2026-03-08T01:00:00-04:00"},
		"a day that never was":       {[]schema.Window{window("10:00", "11:00", "Pacific/Apia", time.Friday)}, "2011-12-30T12:00:00Z", false, "2012-01-06T10:00:00+14:00"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		open, next, unknown := openAt(c.windows, at)
		text := ""
		if !next.IsZero() {
			text = next.Format(time.RFC3339)
		}
		if unknown != nil || open != c.open || text != c.next {
			t.Errorf("%s: open %v, next %s, %v; want %v, %s", name, open, text, unknown, c.open, c.next)
		}
	}
}

// What firstShown says by arithmetic is what watching the clock says.
func TestFirstShownIsWhatTheClockShows(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range []string{"2026-03-07", "2026-03-28", "2026-10-03", "2026-10-24", "2026-10-31"} {
			day, err := time.Parse(time.DateOnly, change)
			if err != nil {
				t.Fatal(err)
			}
			for minute := 0; minute < 2*24*60; minute += 15 {
				wall := day.Add(time.Duration(minute) * time.Minute)
				watched := wall.Add(-26 * time.Hour)
				for {
					_, offset := watched.In(loc).Zone()
					if !watched.Add(time.Duration(offset) * time.Second).Before(wall) {
						break
					}
					watched = watched.Add(5 * time.Minute)
				}
				if got := firstShown(wall, loc); !got.Equal(watched) {
					t.Fatalf("%s %s: %s, want %s", zone, wall.Format(time.DateTime), got, watched.In(loc))
				}
			}
		}
	}
}

func TestUnknownZone(t *testing.T) {
	p := schema.Policy{Windows: []schema.Window{window("22:00", "23:00", "Europe/Berlin"), window("22:00", "23:00", "Europe/Berln")}}
	diags := UnknownZones(&p)
	if len(diags) != 1 || diags[0].Summary != `Unknown time zone "Europe/Berln"` || diags[0].Subject.Start.Line != 2 {
		t.Errorf("%v", diags)
	}
	if _, _, unknown := openAt(p.Windows[1:], time.Now()); unknown == nil {
		t.Error("the window of an unknown zone is known to be open or closed")
	}
}

func TestDescribeWindow(t *testing.T) {
	for want, w := range map[string]schema.Window{
		"22:00-06:00 UTC":                    window("22:00", "06:00", ""),
		"mon, fri 22:00-06:05 Europe/Berlin": window("22:00", "06:05", "Europe/Berlin", time.Monday, time.Friday),
	} {
		if got := describeWindow(&w); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
