package schema

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decodePolicy reads the policy block, if there is one.
func (l *loader) decodePolicy() {
	for _, b := range l.order {
		if b.addr.Kind != "policy" {
			continue
		}
		it := l.nameless(b)
		p := Policy{
			Range:      rangeOf(b.at),
			MaxDelete:  it.maxDelete(),
			AllowEmpty: it.boolean("allow_empty", false),
			Approve:    it.text("approve", "automatic", oneOf([]string{"automatic", "required"})) == "required",
		}
		for _, sub := range it.nested("window") {
			p.Windows = append(p.Windows, sub.window())
		}
		it.public()
		if !it.made.failed {
			l.out.Policy = p
		}
	}
}

// nameless gives the inside of a block that is no resource: nothing of it is in what
// plans compare.
func (l *loader) nameless(b *block) *item {
	return &item{l: l, made: &made{addr: b.addr, block: b, failed: b.broken}, body: b.body, ctx: l.root, at: b.at}
}

var (
	countForm   = regexp.MustCompile(`^[0-9]{1,9}$`)
	percentForm = regexp.MustCompile(`^[0-9]{1,3}%$`)
)

// maxDelete reads a number of resources, or a percentage of them.
func (it *item) maxDelete() *MaxDelete {
	return read(it, "max_delete", nil, func(s string) (*MaxDelete, error) {
		m := &MaxDelete{Range: rangeOf(it.place("max_delete")), Count: -1, Percent: -1}
		n, err := strconv.Atoi(strings.TrimSuffix(s, "%"))
		switch {
		case err == nil && countForm.MatchString(s):
			m.Count = n
		case err == nil && percentForm.MatchString(s) && n <= 100:
			m.Percent = n
		default:
			return nil, errors.New(`It is a number of resources, such as 5, or a share of those that are served, in whole percent: "10%".`)
		}
		return m, nil
	}, func(m *MaxDelete) any { return nil })
}

// weekdays are the names of days in windows, by time.Weekday.
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (it *item) window() Window {
	w := Window{Range: rangeOf(it.at)}
	every := []time.Weekday{0, 1, 2, 3, 4, 5, 6}
	day := func(s string) (time.Weekday, error) {
		if i := slices.Index(weekdays, s); i >= 0 {
			return time.Weekday(i), nil
		}
		why := fmt.Sprintf("A day is one of %s.", listed(quoted(weekdays), "and"))
		if len(s) > 3 && slices.Contains(weekdays, strings.ToLower(s[:3])) {
			return 0, fmt.Errorf("%s Did you mean %q?", why, strings.ToLower(s[:3]))
		}
		return 0, errors.New(why + didYouMean(s, weekdays))
	}
	order := func(l []time.Weekday) []time.Weekday { slices.Sort(l); return slices.Compact(l) }
	ok := it.fine(func() {
		w.Days = list(it, "days", every, day, time.Weekday.String, order)
	})
	if ok && it.has("days") && len(w.Days) == 0 {
		it.fail(it.place("days"), "A window without days", "It would never open. Leave days out for every day of the week.")
	}
	w.From = read(it, "from", 0, parseClock, showClock)
	w.To = read(it, "to", 0, parseClock, showClock)
	it.needed("from")
	it.needed("to")
	w.Zone = it.text("timezone", "UTC", checkZone)
	return w
}

var clockForm = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)

// parseClock reads a time of day.
func parseClock(s string) (time.Duration, error) {
	if !clockForm.MatchString(s) {
		return 0, errors.New(`A time of day has hours from 00 to 23 and minutes: "22:00". Midnight is "00:00".`)
	}
	hours, _ := strconv.Atoi(s[:2]) // two digits
	minutes, _ := strconv.Atoi(s[3:])
	return time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute, nil
}

func showClock(d time.Duration) any {
	return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute)
}

// checkZone checks the form of a zone's name. Whether there is such a zone depends on
// the tz database of the machine, and what Load says does not: whoever waits for the
// window refuses one that it cannot find.
func checkZone(s string) error {
	if s == "Local" || len(s) > 100 || !zoneName.MatchString(s) {
		return errors.New("A time zone is named as in the tz database: Europe/Berlin, UTC.")
	}
	return nil
}
