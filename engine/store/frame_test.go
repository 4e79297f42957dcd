package store

import (
	"bytes"
	"fmt"
	"testing"
)

func frames(t testing.TB, payloads ...string) []byte {
	t.Helper()
	var b []byte
	for _, p := range payloads {
		var err error
		if b, err = appendFrame(b, []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestFramesAreReadBack(t *testing.T) {
	b := frames(t, "one", "two with dlj1 in it", "three")
	got, lost, cut := readFrames(b)
	if fmt.Sprintf("%s", got) != "[one two with dlj1 in it three]" || lost != 0 || cut != 0 {
		t.Errorf("%s, %d lost, %d cut", got, lost, cut)
	}
	for _, n := range []int{0, maxFrame + 1} {
		if _, err := appendFrame(nil, make([]byte, n)); err == nil {
			t.Errorf("a payload of %d bytes is taken", n)
		}
	}
}

// A last frame that is cut off anywhere, or in which any bit is another, is not
// there, and those before it are.
func TestTornLastFrame(t *testing.T) {
	head := frames(t, "one", "two")
	whole := frames(t, "one", "two", `{"step":"put","blob":"sha256:0"}`)
	check := func(what string, b []byte) {
		got, lost, cut := readFrames(b)
		if fmt.Sprintf("%s", got) != "[one two]" || lost != 0 || cut != len(b)-len(head) {
			t.Fatalf("%s: %s, %d lost, %d cut", what, got, lost, cut)
		}
	}
	for n := len(head); n < len(whole); n++ {
		check(fmt.Sprintf("the first %d bytes", n), whole[:n])
	}
	for at := len(head); at < len(whole); at++ {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[at] ^= 1 << bit
			check(fmt.Sprintf("bit %d of byte %d", bit, at), b)
		}
	}
}

// A damaged frame in the middle loses itself, is told of, and nothing behind it is lost.
func TestDamageInTheMiddle(t *testing.T) {
	one, two := frames(t, "one"), frames(t, "two")
	whole := append(append(bytes.Clone(one), two...), frames(t, "three")...)
	for at := len(one); at < len(one)+len(two); at++ {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[at] ^= 1 << bit
			got, lost, cut := readFrames(b)
			if fmt.Sprintf("%s", got) != "[one three]" || lost != len(two) || cut != 0 {
				t.Fatalf("bit %d of byte %d: %s, %d lost, %d cut", bit, at, got, lost, cut)
			}
		}
	}
}

func FuzzReadFrames(f *testing.F) {
	f.Add([]byte{})
	f.Add(frames(f, "one", "two"))
	f.Add(frames(f, "one", "two")[3:])
	f.Add(append(frames(f, "one"), "dlj1dlj1\x00\x00\x00\x01"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		payloads, lost, cut := readFrames(b)
		total := lost + cut
		var again []byte
		for _, p := range payloads {
			total += frameHeader + len(p)
			var err error
			if again, err = appendFrame(again, p); err != nil {
				t.Fatalf("it gives what it does not take: %v", err)
			}
		}
		if total != len(b) {
			t.Fatalf("%d bytes of %d are told of", total, len(b))
		}
		if lost+cut == 0 && !bytes.Equal(again, b) {
			t.Fatal("what is whole reads as something else")
		}
	})
}
