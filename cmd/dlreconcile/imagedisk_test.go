package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Ctrl-C told of every order that the daemon goes on with it. A promotion it gives up, and
// a reset it does not.
func TestInterruptedOrdersOnDisks(t *testing.T) {
	dir, err := os.MkdirTemp("", "disk") // the path of a unix socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ordered := make(chan string, 1)
	interrupt := make(chan context.CancelFunc, 1)
	daemon := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil { // or the end of the connection is not seen
			t.Error(err)
		}
		ordered <- r.URL.Path
		(<-interrupt)()
		<-r.Context().Done()
	}))
	daemon.Listener.Close()
	daemon.Listener = l
	daemon.Start()
	defer daemon.Close()
	for order, means := range map[string]string{
		"reset":   "the daemon discards it all the same",
		"promote": "the daemon gives it up and removes what it copied",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		interrupt <- cancel
		var out, errs bytes.Buffer
		code := run(ctx, streams{in: strings.NewReader(""), out: &out, err: &errs}, []string{"image", order, "ws01", "--socket", socket})
		if path := <-ordered; path != "/v1/overlays/"+order {
			t.Errorf("%s asked for %s", order, path)
		}
		if code == exitOK || !strings.Contains(errs.String(), "interrupted") || !strings.Contains(errs.String(), means) || strings.Contains(errs.String(), "goes on") {
			t.Errorf("%s: %d, %q, want %q", order, code, errs.String(), means)
		}
	}
}

// "4 MiB … which take 3 MiB of the 4 MiB" was said of 3 MiB and some KiB.
func TestAmountsAreComparable(t *testing.T) {
	for n, want := range map[int64]string{
		0: "nothing", 1: "1 KiB", 4096: "4 KiB", 1 << 20: "1 MiB", 3<<20 + 4096: "3076 KiB", 4 << 20: "4 MiB",
		10<<20 - 1: "10240 KiB", 10<<20 + 4096: "10 MiB", 2 << 30: "2048 MiB",
	} {
		if got := amount(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	var out bytes.Buffer
	printDiff(&out, provider.OverlayDiff{Overlay: provider.Overlay{Size: 16 << 20, Bytes: 3<<20 + 8192, Limit: 4 << 20}, Blocks: 770, Pieces: 2})
	if want := "  changed   3080 KiB of 16 MiB in 2 pieces, which take 3080 KiB of the 4 MiB that they may\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%s, want %s", out.String(), want)
	}
	out.Reset()
	if err := (imageList{Disks: []provider.Overlay{{Machine: "m", Created: time.Unix(0, 0)}}}).print(&out); err != nil || strings.Contains(out.String(), "0 MiB") {
		t.Errorf("%s, %v", out.String(), err)
	}
}

// A machine with two exports of an artifact was two, and one more was "machines".
func TestUsedByNamesEachMachineOnce(t *testing.T) {
	for names, want := range map[string]string{
		"h1 h1 h2": "host.h1; host.h2", "h1 h1 h2 h3 h4": "host.h1; host.h2; host.h3; 1 more machine",
		"h1 h2 h3 h4 h5 h5": "host.h1; host.h2; host.h3; 2 more machines", "": "nobody",
	} {
		var a api.ArtifactEntry
		for _, n := range strings.Fields(names) {
			a.Machines = append(a.Machines, api.ArtifactUser{Host: schema.Addr{Kind: "host", Name: n}})
		}
		if got := usedBy(a); got != want {
			t.Errorf("%s: %s, want %s", names, got, want)
		}
	}
}

// An interrupt while the daemon was still being reached told that it does all the same what
// it never heard of.
func TestInterruptedBeforeTheOrder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{{"image", "reset", "ws01"}, {"image", "promote", "ws01"}, {"rollback", "1"}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer cancel(errors.New("interrupt signal received"))
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
			if _, err := c.Read(make([]byte, 1)); err != nil { // of TLS, which nobody answers
				t.Error(err)
			}
		}()
		var out, errs bytes.Buffer
		code := run(ctx, streams{in: strings.NewReader(""), out: &out, err: &errs}, append(args, "--api", "https://"+l.Addr().String()))
		<-done
		if code == exitOK || !strings.Contains(errs.String(), "interrupted before the daemon had the order: nothing was done") {
			t.Errorf("%q: %d, %q", args, code, errs.String())
		}
	}
}

// What the daemon had said already was lost to an interrupt that came with it.
func TestInterruptedAndAnswered(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	refused, cut := errors.New("it is attached"), errors.New("use of closed network connection")
	if err := interrupted(ctx, &api.UnansweredError{Err: cut}, "it goes on"); !errors.Is(err, cut) {
		t.Errorf("not interrupted: %v", err)
	}
	cancel()
	if err := interrupted(ctx, refused, "it goes on"); err != refused {
		t.Errorf("answered: %v", err)
	}
	if err := interrupted(ctx, &api.UnansweredError{Err: cut}, "it goes on"); err == nil || err.Error() != "interrupted while waiting: it goes on" {
		t.Errorf("not answered: %v", err)
	}
}

// The question before a reset kept to itself who is refused after it; and of nobody else it
// may say that.
func TestWhoIsRefusedAfterAReset(t *testing.T) {
	unnamed := provider.OverlayDiff{RefusedAfter: true}
	attached := provider.OverlayDiff{RefusedAfter: true, Overlay: provider.Overlay{Attached: []string{"10.0.0.21:1"}}}
	unread := provider.OverlayDiff{RefusedAfter: true, Overlay: provider.Overlay{Unreadable: "meta.json: EOF"}}
	for _, c := range []struct {
		list  []provider.OverlayDiff
		force bool
		want  string
	}{
		{list: []provider.OverlayDiff{{}, {Overlay: provider.Overlay{Refused: true}}}, force: true},
		{list: []provider.OverlayDiff{{}, unnamed}, want: "names no boot"},
		{list: []provider.OverlayDiff{attached}}, // it will be refused
		{list: []provider.OverlayDiff{attached}, force: true, want: "names no boot"},
		{list: []provider.OverlayDiff{unread}, want: "Nobody knows"},
		{list: []provider.OverlayDiff{unnamed, unread}, want: "names no boot, and whoever"},
	} {
		if got := refusedAfter(c.list, c.force); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v, %t: %q, want %q", c.list, c.force, got, c.want)
		}
	}
}

// What cannot be read was not listed.
func TestListOfWhatCannotBeRead(t *testing.T) {
	bad := provider.Overlay{ID: "m/static/arch", Machine: "52:54:00:00:00:01", Export: "arch", Keep: "boot", Bytes: 8192, Unreadable: "meta.json: \x1bEOF"}
	good := provider.Overlay{Machine: "52:54:00:00:00:02", Export: "arch@0123456789ab", Keep: "boot", Created: time.Unix(0, 0)}
	for _, disks := range [][]provider.Overlay{{bad}, {good, bad}, {bad, good}} {
		var out bytes.Buffer
		if err := (imageList{Disks: disks}).print(&out); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if !strings.Contains(text, "\nm/static/arch    52:54:00:00:00:01        arch    boot  8 KiB  meta.json:  EOF\n") || strings.Contains(text, "0001-") {
			t.Errorf("%s", text)
		}
		if n := strings.Count(text, "\nMACHINE "); n != len(disks)-1 {
			t.Errorf("%d tables of others: %s", n, text)
		}
	}
}

// Two boots of one machine had rows that looked the same.
func TestDisksOfTwoBootsAreToldApart(t *testing.T) {
	var out bytes.Buffer
	l := imageList{Disks: []provider.Overlay{
		{Machine: "m", Export: "boot@0123456789ab", Boot: "newA"}, {Machine: "m", Export: "boot@0123456789ab", Boot: "newB"}, {Machine: "m", Export: "boot@0123456789ab"},
	}}
	if err := l.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"boot+newA ", "boot+newB ", "boot "} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("%q is not there once:\n%s", want, out.String())
		}
	}
}

// What cannot be read of one disk is said with it, and at the end.
func TestFailedDiffsAreNamed(t *testing.T) {
	list := []provider.OverlayDiff{
		{Overlay: provider.Overlay{Machine: "m", Export: "boot@0123456789ab", Boot: "newA"}, Failed: "no ext4\x1b"},
		{Overlay: provider.Overlay{Machine: "m", Export: "host@0123456789ab"}},
	}
	if err := failedDiffs(list[1:]); err != nil {
		t.Error(err)
	}
	if err := failedDiffs(list); err == nil || !strings.Contains(err.Error(), "boot@0123456789ab+newA of m:") || strings.Contains(err.Error(), "host@") {
		t.Errorf("%v", err)
	}
	var out bytes.Buffer
	printDiff(&out, list[0])
	if got := out.String(); !strings.Contains(got, "m  boot@0123456789ab+newA  ") || !strings.Contains(got, "  failed    no ext4") || strings.Contains(got, "\x1b") || strings.Contains(got, "changed") {
		t.Error(got)
	}
}
