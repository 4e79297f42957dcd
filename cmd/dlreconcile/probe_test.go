package main

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/nbdprobe"
)

// What a server says that an export is called does not make other bytes right.
func TestProbeIsHeldAgainstWhatWasAskedFor(t *testing.T) {
	right, wrong := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for _, c := range []struct{ asked, name, digest, want string }{
		{"arch@aaaaaaaaaaaa", "arch@aaaaaaaaaaaa", right, "yes"},
		{"arch@aaaaaaaaaaaa", "arch@bbbbbbbbbbbb", wrong, "differs"},
		{"arch@aaaaaaaaaaaa/ws01", "arch", wrong, "differs"},
		{"arch", "arch@aaaaaaaaaaaa", right, "yes"},
		{"arch", "arch@aaaaaaaaaaaa", wrong, "differs"},
		{"arch", "arch", wrong, "no"},
	} {
		got := newNBDReport("127.0.0.1", c.asked, &nbdprobe.Result{Export: nbdprobe.Export{Name: c.name, Size: 1}, Bytes: 1, Digest: c.digest}, nbdFlags{})
		if got.Verified != c.want {
			t.Errorf("asked for %s, called %s, with %s: %s, want %s", c.asked, c.name, c.digest, got.Verified, c.want)
		}
	}
}

// A server that gives a byte now and then ends with an error that says how far it came.
func TestProbeGivesUpOnADrippingServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			dripNBD(nc)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--timeout", "300ms"}, exitError, "after 0 of 1048576 bytes: no whole answer within 300ms: "},
		{[]string{"--within", "300ms"}, exitError, "after 0 of 1048576 bytes: it was not done within 300ms"},
		{[]string{"--within", "-1s"}, exitUsage, "--within must be longer than nothing"},
		{[]string{"--connections", "999", "--depth", "9"}, exitUsage, "--connections 999: want 1 to 64"},
		{[]string{"--connections", "9", "--depth", "99999"}, exitUsage, "--depth 99999: want 1 to 1024"},
		{[]string{"--depth", "0"}, exitUsage, "--depth 0: want 1 to 1024"},
		{[]string{"--request", "1"}, exitUsage, "--request \"1\": want"},
		{[]string{"--connections", "64", "--depth", "1024"}, exitUsage, "--request, --depth and --connections do not go together"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"probe", "nbd", ln.Addr().String(), "x"}, c.args...)...)
		cmd.Env = append(os.Environ(), asCommand+"=1")
		out, errs, code := runCommand(t, cmd)
		if code != c.code || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%q: exit %d, want %d: %q, want %q", c.args, code, c.code, errs, c.says)
		}
	}
}

// dripNBD attaches a client to 1 MiB, and answers with a byte every 10 ms until it
// leaves.
func dripNBD(nc net.Conn) {
	defer nc.Close()
	b := []byte("NBDMAGICIHAVEOPT\x00\x03")
	for _, r := range []struct {
		option, typ uint32
		data        string
	}{{8, 1<<31 + 1, ""}, {7, 3, "\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x03"}, {7, 1, ""}} {
		b = binary.BigEndian.AppendUint64(b, 0x3e889045565a9)
		b = binary.BigEndian.AppendUint32(b, r.option)
		b = binary.BigEndian.AppendUint32(b, r.typ)
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.data)))
		b = append(b, r.data...)
	}
	b = append(b, "\x67\x44\x66\x98\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"...)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		io.Copy(io.Discard, nc)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := nc.Write(b); err != nil {
			return
		}
		b = b[:1]
		select {
		case <-tick.C:
		case <-gone:
			return
		}
	}
}
