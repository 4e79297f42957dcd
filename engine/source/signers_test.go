package source

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

const someKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINNwMHM8lLcve+HMdKmjaanRnkdOE0Sm3ZUxkjv5LTgg"

func TestParseSigners(t *testing.T) {
	for _, tc := range []struct {
		text string
		want signer
		fail string // part of the error; "" wants none
	}{
		{text: "a@example.org " + someKey, want: signer{line: 1, principals: "a@example.org"}},
		{text: "\n\ta,b*,!c\t" + someKey + " with a comment\r\n", want: signer{line: 2, principals: "a,b*,!c"}},
		{text: `"a b" NAMESPACES="git,f?le" ` + someKey, want: signer{line: 1, principals: "a b", namespaces: "git,f?le"}},
		{text: `a valid-after="20260102Z",valid-before="20260304050607Z" ` + someKey, want: signer{line: 1, principals: "a",
			after: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), before: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}},
		{text: "a valid-before=202603040506Z " + someKey, want: signer{line: 1, principals: "a", before: time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC)}},
		{text: "a valid-before=20260304 " + someKey, want: signer{line: 1, principals: "a", before: time.Date(2026, 3, 4, 0, 0, 0, 0, time.Local)}},
		{text: someKey, fail: "no public key"},
		{text: "# x\na", fail: "line 2: want"},
		{text: `"a ` + someKey, fail: "quotation mark"},
		{text: "a ssh-ed25519 AAAA", fail: "no public key"},
		{text: "a no-pty " + someKey, fail: `"no-pty" is not understood`},
		{text: `a namespaces="" ` + someKey, fail: "is not understood"},
		{text: `a valid-before="1y" ` + someKey, fail: "is no time"},
		{text: `a valid-before="20261301" ` + someKey, fail: "is no time"},
		{text: `a valid-before="20260101",valid-before="20270101" ` + someKey, fail: "is there twice"},
		{text: `a valid-after="20270101",valid-before="20260101" ` + someKey, fail: "is not before"},
		{text: "a ssh-dss AAAAB3NzaC1kc3MAAACBAOeB5J5pWYV1u+2CEFxQ4XwL2IZwBYNvGOBVF3MXcsa1D0b2y4w8e5y", fail: "no public key"},
		{text: "a " + someKey + strings.Repeat(" ", maxSignerLine) + "x", fail: "is longer than"},
		{text: strings.Repeat("a "+someKey+"\n", maxSigners+1), fail: "more than 10000 lines"},
	} {
		got, err := parseSigners([]byte(tc.text))
		if tc.fail != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fail) {
				t.Errorf("%.80q: %v, want %q", tc.text, err, tc.fail)
			}
			continue
		}
		if err != nil || len(got.keys) != 1 {
			t.Errorf("%.80q: %d keys, %v", tc.text, len(got.keys), err)
			continue
		}
		for _, lines := range got.keys {
			if len(lines) != 1 || lines[0] != tc.want {
				t.Errorf("%.80q: %+v, want %+v", tc.text, lines, tc.want)
			}
		}
	}
	weak := "a ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC2oRH9ISFaddVieKOprPN/wuQDhuNKsI1RRKDyefQf1H9/uNvRq7vptr9qnhGabPErPOmQjV5SsRw8br+Dw39VgURTqmzMc/aWGMVxsXdjbM0Wb3KBppO3HrURjtG2vtb1KSq0TjJ6jRaeeVzWxX0lVwpOd0hFK5CiAwrJd4X20Q=="
	if _, err := parseSigners([]byte(weak)); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("a short RSA key: %v", err)
	}
}

func TestPatternLists(t *testing.T) {
	for _, tc := range []struct {
		list, name string
		want       bool
	}{
		{"a@example.org", "a@example.org", true},
		{"a@example.org", "A@example.org", false},
		{"*", "anything/at all", true},
		{"*@example.org", "a@example.org", true},
		{"*@example.org", "a@example.com", false},
		{"g?t", "git", true},
		{"g?t", "gt", false},
		{"a,b", "b", true},
		{"*,!b", "b", false},
		{"!b,*", "b", false},
		{"!b", "c", false},
		{"[a]", "a", false},
		{`\a`, "a", false},
		{"", "a", false},
	} {
		if got := matches(tc.list, tc.name); got != tc.want {
			t.Errorf("matches(%q, %q) = %v", tc.list, tc.name, got)
		}
	}
}

func FuzzSigners(f *testing.F) {
	f.Add([]byte("a@example.org " + someKey))
	f.Add([]byte(`"a" cert-authority,namespaces="git",valid-after="20260101Z" ` + someKey))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSigners(data)
		if err != nil {
			return
		}
		for _, lines := range s.keys {
			for _, l := range lines {
				if l.principals == "" || !l.before.IsZero() && !l.after.Before(l.before) {
					t.Errorf("%+v", l)
				}
			}
		}
	})
}

// What is left when the signature is gone has none, and is what git would sign.
func FuzzSplitCommit(f *testing.F) {
	f.Add([]byte("tree 1\ngpgsig -----BEGIN SSH SIGNATURE-----\n x\n -----END SSH SIGNATURE-----\nauthor a\n\nm\n"))
	f.Add([]byte("gpgsig a\ngpgsig-sha256 b\n c\n\ngpgsig d\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := splitCommit(raw)
		if err != nil {
			return
		}
		again, err := splitCommit(s.payload)
		if err != nil || len(again.signature) > 0 || !bytes.Equal(again.payload, s.payload) {
			t.Errorf("%q: a signature is left in %q", raw, s.payload)
		}
	})
}

func FuzzSplitTag(f *testing.F) {
	f.Add([]byte("object 1\ntag v1\n\nm\n-----BEGIN SSH SIGNATURE-----\nx\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := splitTag(raw)
		if err == nil && !bytes.Equal(append(bytes.Clone(s.payload), s.signature...), raw) {
			t.Errorf("%q became %q and %q", raw, s.payload, s.signature)
		}
	})
}
