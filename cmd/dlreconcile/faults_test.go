package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// faulty is a provider whose Prepare fails as a test wants, before or after the real one
// has done its work.
type faulty struct {
	provider.Provider
	mu    sync.Mutex
	fault func(context.Context) error
	after bool
}

func (f *faulty) set(fault func(context.Context) error, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.after = fault, after
}

func (f *faulty) Prepare(ctx context.Context, in provider.Input) (provider.Txn, error) {
	f.mu.Lock()
	fault, after := f.fault, f.after
	f.mu.Unlock()
	if fault == nil {
		return f.Provider.Prepare(ctx, in)
	}
	if !after {
		return nil, fault(ctx)
	}
	txn, err := f.Provider.Prepare(ctx, in)
	if err != nil {
		return nil, err
	}
	defer txn.Abort()
	return nil, fault(ctx)
}

// serveFaulty runs a daemon in this process, with faults, on a site of its own.
func serveFaulty(t *testing.T) (*loopback, map[string]*faulty) {
	t.Helper()
	s := newLoopback(t)
	faults := map[string]*faulty{}
	c := &cli{streams: streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}}
	c.settings = settings{Repo: s.repo, State: s.state, Socket: filepath.Join(s.state, "api.sock"), Poll: time.Minute, repoGiven: true}
	c.around = func(p provider.Provider) provider.Provider {
		f := &faulty{Provider: p}
		faults[p.Name()] = f
		return f
	}
	c.limits = func(cfg *engine.Config) { cfg.PrepareLimit, cfg.Log = 4*time.Second, slog.New(slog.DiscardHandler) }
	h, err := c.wire(wireServe)
	if err != nil {
		t.Fatal(err)
	}
	l, err := api.Listen(t.Context(), nil, c.settings.Socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.serveOn(ctx, h, l, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, faults
}

// transcript is all that machines of the site are told: as explain says it, and by the
// wire, where each byte is held against that.
func (s *loopback) transcript() string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), applyLimit)
	defer cancel()
	var b bytes.Buffer
	err := s.client.Lines(ctx, "/v1/explain", url.Values{"all": {"true"}}, func(line json.RawMessage) error {
		b.Write(append(line, '\n'))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for n := range byte(2) {
		w := &walker{mac: provider.MAC{0x52, 0x54, 0, 0, 1, n}, ports: s.ports}
		offer, err := w.dhcp(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %s %s\n", w.mac, w.addr, offer)
		var told explain.Result
		if err := s.client.Get(ctx, "/v1/explain", url.Values{"machine": {w.mac.String()}, "class": {"iPXE"}}, &told); err != nil {
			s.t.Fatal(err)
		}
		for _, a := range told.Steps {
			switch a.Kind {
			case provider.AnswerDHCP:
			case provider.AnswerRoot:
				w.export, w.size = a.Name, a.Size
				if err := w.attach(ctx); err != nil {
					s.t.Fatal(err)
				}
				fmt.Fprintf(&b, "nbd %s %x\n", a.Name, w.first)
				if err := w.close(); err != nil {
					s.t.Fatal(err)
				}
			default:
				for _, get := range []func(context.Context, string) (string, error){w.http, w.tftp} {
					digest, err := get(ctx, a.Name)
					if err != nil || digest != a.Digest {
						s.t.Fatalf("%s: %s, %v; explain says %s", a.Name, digest, err, a.Digest)
					}
					fmt.Fprintf(&b, "%s %s\n", a.Name, digest)
				}
			}
		}
	}
	return b.String()
}

// refusedFor waits until a revision is refused, and gives why.
func (s *loopback) refusedFor(rev string) *engine.Failure {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), applyLimit)
	defer cancel()
	var st engine.Status
	for st.Failure == nil || st.Failure.Revision != rev || st.Attempt != "" {
		var err error
		if st, err = s.client.Status(ctx, st.Seq); err != nil {
			s.t.Fatalf("%s is not refused: %v", rev, err)
		}
	}
	return st.Failure
}

// TestFaultsLeaveNoTrace: whatever goes wrong while a commit is prepared, in whichever
// provider, machines are told to the byte what they were told before.
func TestFaultsLeaveNoTrace(t *testing.T) {
	s, faults := serveFaulty(t)
	// One root for all, so that only the first commit takes a build; every other changes
	// what each machine is told.
	files := func(n int) map[string]string {
		t.Helper()
		files, err := loopbackSite(s.ports, 1)
		if err != nil {
			t.Fatal(err)
		}
		files["site.hcl"] = strings.Replace(files["site.hcl"], "entry \"small\" {", fmt.Sprintf("entry \"small\" {\n  args = [\"site.n=%d\"]", n), 1)
		return files
	}
	s.synced(s.commit(files(1)))
	s.transcript() // machines are known from now on, and have their leases
	before := s.transcript()
	if !strings.Contains(before, "nbd small@") {
		t.Fatalf("the transcript says nothing of roots:\n%s", before)
	}
	count := 2
	for _, fault := range []struct {
		name string
		do   func(context.Context) error
		says string
	}{
		{"disk full", func(context.Context) error {
			return fmt.Errorf("write: %w", &os.PathError{Op: "write", Path: "/var/lib/x", Err: syscall.ENOSPC})
		}, "no space left on device"},
		{"not permitted", func(context.Context) error { return &os.PathError{Op: "open", Path: "/x", Err: syscall.EPERM} }, "operation not permitted"},
		{"panic", func(context.Context) error { panic("out of range") }, "out of range"},
		{"hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "preparing took longer than"},
	} {
		for _, name := range []string{"image", "export", "bootloader", "dhcp"} {
			for _, after := range []bool{false, true} {
				if after && fault.name == "hangs" {
					continue // the limit is waited for, for real
				}
				faults[name].set(fault.do, after)
				f := s.refusedFor(s.commit(files(count)))
				count++
				if !strings.Contains(f.Message, fault.says) {
					t.Errorf("%s in %s, after %v: %s", fault.name, name, after, f.Message)
				}
				if diff := cmp.Diff(before, s.transcript()); diff != "" {
					t.Errorf("%s in %s, after %v: machines are told something else (-before +now)\n%s", fault.name, name, after, diff)
				}
				faults[name].set(nil, false)
			}
		}
	}

	// A port that somebody has, of each server.
	for i, name := range []string{"dhcp", "tftp", "http", "nbd"} {
		taken := occupy(t, i < 2)
		site := files(1)
		site["site.hcl"] = strings.Replace(site["site.hcl"], fmt.Sprintf(":%d", s.ports[i]), fmt.Sprintf(":%d", taken), 1)
		if f := s.refusedFor(s.commit(site)); !strings.Contains(f.Message, "address already in use") {
			t.Errorf("the port of %s is in use: %s", name, f.Message)
		}
		if diff := cmp.Diff(before, s.transcript()); diff != "" {
			t.Errorf("the port of %s is in use: machines are told something else (-before +now)\n%s", name, diff)
		}
	}

	// And the commit that mends it is served.
	s.synced(s.commit(files(count)))
	if now := s.transcript(); now == before {
		t.Error("another kernel line is served, and machines are told the same")
	}
}

// occupy takes a port on loopback until the test ends.
func occupy(t *testing.T, udp bool) int {
	t.Helper()
	if udp {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c.LocalAddr().(*net.UDPAddr).Port
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}
