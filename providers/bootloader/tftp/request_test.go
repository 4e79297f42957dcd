package tftp

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func rrq(fields ...string) []byte {
	p := binary.BigEndian.AppendUint16(nil, opRRQ)
	return append(p, strings.Join(fields, "\x00")+"\x00"...)
}

func TestParseRequest(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	for name, tc := range map[string]struct {
		in   []byte
		want *request
		code int // of the refusal; -1 for none
	}{
		"plain":             {rrq("a/b", "octet"), &request{name: "a/b"}, -1},
		"mode in capitals":  {rrq("a", "OcTeT"), &request{name: "a"}, -1},
		"text mode":         {rrq("a", "NETASCII"), &request{name: "a", netascii: true}, -1},
		"GRUB's slash":      {rrq("/a/b", "octet"), &request{name: "a/b"}, -1},
		"shim's slashes":    {rrq("//a//b/", "octet"), &request{name: "a/b"}, -1},
		"single dot":        {rrq("./a/./b", "octet"), &request{name: "a/b"}, -1},
		"iPXE":              {rrq("b", "octet", "blksize", "1432", "tsize", "0"), &request{name: "b", block: 1432, tsize: true}, -1},
		"EDK2":              {rrq("b", "octet", "tsize", "0", "blksize", "1468", "windowsize", "4"), &request{name: "b", tsize: true, block: 1468, window: 4}, -1},
		"capital options":   {rrq("b", "octet", "BlkSize", "1024", "TIMEOUT", "3"), &request{name: "b", block: 1024, timeout: 3}, -1},
		"zero padding":      {append(rrq("b", "octet", "blksize", "512"), make([]byte, 40)...), &request{name: "b", block: 512}, -1},
		"option cut off":    {append(rrq("b", "octet"), "blksize\x00512"...), &request{name: "b"}, -1},
		"block too small":   {rrq("b", "octet", "blksize", "7"), &request{name: "b"}, -1},
		"block too large":   {rrq("b", "octet", "blksize", "65465"), &request{name: "b"}, -1},
		"window of zero":    {rrq("b", "octet", "windowsize", "0"), &request{name: "b"}, -1},
		"timeout of zero":   {rrq("b", "octet", "timeout", "0"), &request{name: "b"}, -1},
		"timeout too long":  {rrq("b", "octet", "timeout", "256"), &request{name: "b"}, -1},
		"negative":          {rrq("b", "octet", "blksize", "-1"), &request{name: "b"}, -1},
		"huge number":       {rrq("b", "octet", "blksize", "99999999999999999999"), &request{name: "b"}, -1},
		"unknown option":    {rrq("b", "octet", "multicast", "", "blksize", "600"), &request{name: "b", block: 600}, -1},
		"up and out":        {rrq("a/../../etc/passwd", "octet"), nil, codeAccess},
		"mail":              {rrq("a", "mail"), nil, codeIllegal},
		"no mode":           {rrq("a"), nil, codeIllegal},
		"nothing":           {[]byte{0, 1}, nil, codeIllegal},
		"no zero byte":      {[]byte("\x00\x01abcdef"), nil, codeIllegal},
		"empty name":        {rrq("", "octet"), nil, codeNotFound},
		"only slashes":      {rrq("///", "octet"), nil, codeNotFound},
		"long name":         {rrq(long, "octet"), nil, codeNotFound},
		"control character": {rrq("a\nb", "octet"), nil, codeNotFound},
		"write":             {[]byte("\x00\x02a\x00octet\x00"), nil, codeAccess},
		"data":              {[]byte("\x00\x03\x00\x01abc"), nil, -1},
		"error":             {[]byte("\x00\x05\x00\x01abc\x00"), nil, -1},
		"one byte":          {[]byte{1}, nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseRequest(tc.in)
			code := -1
			var r *refusal
			if errors.As(err, &r) {
				code = int(r.code)
			}
			if code != tc.code {
				t.Fatalf("error %v (code %d), want code %d", err, code, tc.code)
			}
			if got != nil {
				got.spelled = "" // see TestOptionsAsSpelled
			}
			if d := cmp.Diff(tc.want, got, cmp.AllowUnexported(request{})); d != "" {
				t.Error(d)
			}
		})
	}
}

// Which options a program sends, and in which order, tells it from others.
func TestOptionsAsSpelled(t *testing.T) {
	for want, fields := range map[string][]string{
		"":                                   {"octet"},
		"blksize=1432 tsize=0":               {"octet", "blksize", "1432", "tsize", "0"},
		"tsize=0 BLKSIZE=1468 windowsize=4":  {"octet", "tsize", "0", "BLKSIZE", "1468", "windowsize", "4"},
		"multicast= blksize=99999 timeout=0": {"octet", "multicast", "", "blksize", "99999", "timeout", "0"},
	} {
		r, err := parseRequest(rrq(append([]string{"name"}, fields...)...))
		if err != nil || r.spelled != want {
			t.Errorf("%q, %v; want %q", r.spelled, err, want)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(rrq("b/abc/boot.ipxe", "octet", "tsize", "0", "blksize", "1468", "windowsize", "4"))
	f.Add(rrq("/grub//grub.cfg", "NetASCII", "TIMEOUT", "5"))
	f.Add([]byte("\x00\x02up\x00octet\x00"))
	f.Add([]byte("\x00\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseRequest(p)
		if err != nil || r == nil {
			if r != nil {
				t.Fatal("a request and an error")
			}
			return
		}
		if r.name == "" || len(r.name) > maxName || strings.HasPrefix(r.name, "/") ||
			strings.Contains("/"+r.name+"/", "/../") || strings.Contains(r.name, "//") || strings.ContainsRune(r.name, 0) {
			t.Fatalf("name %q", r.name)
		}
		if r.block != 0 && (r.block < minBlock || r.block > maxBlock) || r.window < 0 || r.window > 65535 || r.timeout < 0 || r.timeout > 255 {
			t.Fatalf("option out of range: %+v", r)
		}
		// What was understood, spelled canonically, is understood the same way.
		mode := "octet"
		if r.netascii {
			mode = "netascii"
		}
		q := rrq(r.name, mode)
		for name, v := range map[string]int{"blksize": r.block, "windowsize": r.window, "timeout": r.timeout} {
			if v > 0 {
				q = appendOption(q, name, int64(v))
			}
		}
		if r.tsize {
			q = appendOption(q, "tsize", 0)
		}
		again, err := parseRequest(q)
		if err != nil {
			t.Fatal(err)
		}
		again.spelled = r.spelled
		if *again != *r {
			t.Fatalf("%+v became %+v", *r, *again)
		}
	})
}
