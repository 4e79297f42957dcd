package plan

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestTextOfCreateAndDelete(t *testing.T) {
	p := compute(t, nil, func(s *site) {
		s.hosts = []hostSpec{s.hosts[0], {"new", "52:54:00:00:00:09", "", []string{"quiet"}}}
	})
	want := `+ host.new     site.hcl:80,1
  + args  ["quiet"]
  + mac   "52:54:00:00:00:09"
    host.new: next boot

- host.render02     site.hcl:80,1
    host.render02: next boot, boots as a machine without a host block

Plan: 1 to create, 0 to update, 0 to replace, 1 to delete.
`
	if d := cmp.Diff(want, rendered(t, p)); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
}

func TestTextOptions(t *testing.T) {
	long := strings.Repeat("a", 300)
	p := &Plan{Changes: []Change{{Address: addr("image.x"), Action: Update,
		Before: map[string]json.RawMessage{"motd": quote(long + "one" + long)},
		After:  map[string]json.RawMessage{"motd": quote(long + "two" + long), "note": quote("\x1b[2J\u009b")},
	}}}
	for _, width := range []int{0, 80, 20} {
		var b strings.Builder
		if err := p.Text(&b, TextOptions{Width: width}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "one") || !strings.Contains(b.String(), "two") {
			t.Errorf("width %d hides the difference:\n%s", width, b.String())
		}
		if strings.ContainsAny(b.String(), "\x1b\u009b") {
			t.Errorf("width %d lets an escape sequence through", width)
		}
		for l := range strings.SplitSeq(b.String(), "\n") {
			if n := utf8.RuneCountInString(l); width == 80 && n > width {
				t.Errorf("line of %d columns: %q", n, l)
			}
		}
	}
	var b strings.Builder
	if err := p.Text(&b, TextOptions{Color: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "\x1b[33m~ image.x\x1b[0m") {
		t.Errorf("no colour: %q", b.String())
	}
}

func TestTextTellsAFailingWriter(t *testing.T) {
	if err := (&Plan{}).Text(failing{}, TextOptions{}); err == nil {
		t.Error("no error")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errShort }

var errShort = errors.New("no space left on device")

func TestImpactWords(t *testing.T) {
	for want, im := range map[string]Impact{
		"host.a: live, at its next renewal":                     {Effect: EffectLive, Machines: []string{"host.a"}, Detail: nextRenewal},
		"2 hosts keep sha256:77aabbccddee… until they reboot":   {Effect: EffectKeeps, Machines: []string{"host.a", "host.b"}, Artifact: artifact1, Detail: untilReboot},
		"2 machines: discards data":                             {Effect: EffectDiscards, Machines: []string{"52:54:00:00:00:01", "host.b"}},
		"host.a: interrupts, its next connection is refused":    {Effect: EffectInterrupts, Machines: []string{"host.a"}, Detail: "its next connection is refused"},
		"52:54:00:00:00:01 keeps 10.0.0.9 until its lease ends": {Effect: EffectKeeps, Machines: []string{"52:54:00:00:00:01"}, Detail: "10.0.0.9 " + untilLeaseEnd},
	} {
		if got := impactText(im); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
