package export

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/schema"
)

var _ provider.Provider = (*Provider)(nil)

func diffOf(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}))
}

func TestOutputs(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	x, err := r.Prepare(t.Context(), r.input(1, a))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Abort()
	want := map[schema.Addr]provider.Output{
		exportCOW: {Export: &provider.Export{
			Name: "arch@" + a.Root.Digest[7:19], Server: r.addr, Artifact: a,
			Mode: schema.CopyOnWrite, Keep: schema.KeepBoot, Filesystem: "ext4",
		}},
		exportRO: {Export: &provider.Export{
			Name: "sealed@" + a.Root.Digest[7:19], Server: r.addr, Artifact: a, Mode: schema.ReadOnly, Filesystem: "ext4",
		}},
	}
	if diff := diffOf(want, x.Outputs()); diff != "" {
		t.Error(diff)
	}
}

// A prepared socket is bound and says nothing; Abort closes it and every file.
func TestPrepareAnswersNothing(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	x, err := r.Prepare(t.Context(), r.input(1, a))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp4", r.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := nc.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("before Commit: %d bytes, %v", n, err)
	}
	if got := r.Answer(provider.Query{Generation: 1, Host: hostWS01}); got != nil {
		t.Errorf("published before Commit: %+v", got)
	}
	x.Abort()
	x.Abort()
	x.Commit() // one of the two takes effect
	if n := r.blobs.Open(); n != 0 {
		t.Errorf("%d files are open after Abort", n)
	}
	if nc, err := net.Dial("tcp4", r.addr.String()); err == nil {
		nc.Close()
		t.Error("the socket is still bound after Abort")
	}
}

func TestPrepareRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*rig, *provider.Input)
		at   string // of the diagnostic; "" for another error
		want string
	}{
		{"NBD switched off", func(_ *rig, in *provider.Input) { in.Want.Servers[0].NBD.Disabled = true }, "site.hcl:20,1", "NBD is switched off"},
		{"unservable key", func(_ *rig, in *provider.Input) { in.Want.Exports[1].Addr.Key = "a b" }, "site.hcl:30,1", "cannot be called that"},
		{"no artifact", func(_ *rig, in *provider.Input) { in.Built = nil }, "", "nothing was built for image.arch"},
		{"no blob", func(_ *rig, in *provider.Input) {
			in.Built[imageArch].Artifact.Root.Digest = "sha256:" + strings.Repeat("0", 64)
		}, "", "no such file"},
		{"blob of another size", func(_ *rig, in *provider.Input) { in.Built[imageArch].Artifact.Root.Size++ }, "", "recorded were"},
		{"port in use", func(r *rig, in *provider.Input) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				r.t.Fatal(err)
			}
			r.t.Cleanup(func() { l.Close() })
			in.Want.Servers[0].NBD.Listen = l.Addr().(*net.TCPAddr).AddrPort()
		}, "", "address already in use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			a, _ := r.artifact(1, 1<<20)
			r.commit(r.input(1, a))
			open := r.blobs.Open()
			b, _ := r.artifact(2, 1<<20)
			in := r.input(2, b)
			c.edit(r, &in)
			x, err := r.Prepare(t.Context(), in)
			if err == nil {
				x.Abort()
				t.Fatal("no error")
			}
			var diags hcl.Diagnostics
			if errors.As(err, &diags) != (c.at != "") {
				t.Fatalf("%T %v", err, err)
			}
			if c.at != "" {
				s := diags[0].Subject
				if got := (schema.Range{File: s.Filename, Line: s.Start.Line, Column: s.Start.Column}).String(); got != c.at {
					t.Errorf("at %s, want %s", got, c.at)
				}
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if got := r.blobs.Open(); got != open {
				t.Errorf("%d files open, before %d", got, open)
			}
			r.mustDial(nameOf("sealed", a)) // nothing changed on the wire
		})
	}
}

// An image is rebuilt under a running machine: it keeps the old bytes on the open
// connection and over a reconnect, on the same socket; the next one gets the new.
func TestImageRebuilt(t *testing.T) {
	r := newRig(t)
	a, old := r.artifact(1, 1<<20)
	b, fresh := r.artifact(2, 1<<20)
	r.commit(r.input(1, a))
	m := r.mustDial("sealed")
	var sockets []any
	r.socks.Each(func(_ netip.AddrPort, l net.Listener) { sockets = append(sockets, l) })

	r.commit(r.input(2, b))
	r.retire()
	if !bytes.Equal(m.read(0, 1<<20), old) {
		t.Error("the bytes changed under an open connection")
	}
	if !bytes.Equal(r.mustDial(nameOf("sealed", a)).read(4096, 4096), old[4096:8192]) {
		t.Error("the bytes changed for a reconnect")
	}
	if !bytes.Equal(r.mustDial("sealed").read(0, 4096), fresh[:4096]) {
		t.Error("the alias gives an old root to a client that is pinned to nothing")
	}
	r.socks.Each(func(_ netip.AddrPort, l net.Listener) {
		if len(sockets) != 1 || sockets[0] != any(l) {
			t.Error("another socket than before")
		}
	})
	if e := r.events.wait(t, "attach", func(e provider.Event) bool { return e.Artifact == b.Root.Digest }); e.Generation != 2 || e.Name != nameOf("sealed", b) {
		t.Errorf("%+v", e)
	}
}

func TestRetire(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	b, _ := r.artifact(2, 1<<20)
	r.commit(r.input(1, a))
	in := r.input(2, b)
	next := freePort(t)
	in.Want.Servers[0].NBD.Listen = next
	r.commit(in)
	oldAddr := r.addr
	dialable := func(a netip.AddrPort) bool {
		nc, err := net.Dial("tcp4", a.String())
		if err == nil {
			nc.Close()
		}
		return err == nil
	}

	r.retire(1) // somebody is pinned to it: its socket stays, as its kernel line says so
	m := r.mustDial(nameOf("sealed", a))
	r.retire() // nobody is, but it is in use
	if !dialable(oldAddr) || !dialable(next) {
		t.Fatal("a socket in use is gone")
	}
	m.read(0, 512)
	m.nc.Close()
	r.events.wait(t, "detach", kind(provider.EventDetach))
	r.retire()
	if dialable(oldAddr) {
		t.Error("the socket of a retired generation is still bound")
	}
	r.addr = next
	r.wantRefused(nameOf("sealed", a), "retired")
	if n := r.blobs.Open(); n != 1 {
		t.Errorf("%d files are open, want the current root only", n)
	}
	r.retire()
	r.mustDial(nameOf("sealed", b))
}

// A retained generation is served beside the current one.
func TestRetained(t *testing.T) {
	r := newRig(t)
	a, old := r.artifact(1, 1<<20)
	b, fresh := r.artifact(2, 1<<20)
	r.commit(r.input(2, b))
	in := r.input(1, a)
	in.Retained, in.Offline = true, true
	r.commit(in)
	read := func(name string) []byte { return r.mustDial(name).read(0, 512) }
	if !bytes.Equal(read(nameOf("sealed", a)), old[:512]) || !bytes.Equal(read("sealed"), fresh[:512]) {
		t.Error("wrong bytes")
	}
	r.clients.edit(loopback, func(c *provider.Client) { c.Generation = 1 })
	if !bytes.Equal(read("sealed"), old[:512]) {
		t.Error("the alias is not of the generation that the client is pinned to")
	}
}

// eventually polls until ok, for what the provider does on its own goroutine.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestRestartAfterMovedListenerLostRunningRoots(t *testing.T) {
	r := newRig(t)
	a, old := r.artifact(1, 1<<20)
	b, _ := r.artifact(2, 1<<20)
	before, after := r.addr, freePort(t)
	bound := func(a netip.AddrPort) (yes bool) {
		r.socks.Each(func(k netip.AddrPort, _ net.Listener) { yes = yes || k == a })
		return yes
	}
	busy, err := net.Listen("tcp4", "127.0.0.1:0") // by another program
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()

	// As at a start: the generations that were left first.
	for gen, listen := range map[uint64]netip.AddrPort{3: busy.Addr().(*net.TCPAddr).AddrPort(), 4: before} {
		in := r.input(gen, a)
		in.Retained, in.Offline = true, true
		in.Want.Servers[0].NBD.Listen = listen
		r.commit(in)
	}
	if bound(before) {
		t.Error("bound before the current generation, whose sockets it could be in the way of")
	}
	in := r.input(5, b)
	in.Want.Servers[0].NBD.Listen = after
	r.commit(in)
	eventually(t, "the listener of the retained generation is never bound", func() bool { return bound(before) })
	m := r.mustDial(nameOf("sealed", a)) // at r.addr, which is before
	if !bytes.Equal(m.read(0, 512), old[:512]) {
		t.Error("wrong bytes")
	}
	m.nc.Close()
	r.events.wait(t, "detach", kind(provider.EventDetach))
	r.retire()
	if bound(before) || !bound(after) {
		t.Error("sockets are not retired as always")
	}
}

func TestPinnedGenerationKeptAccessThatWasTakenAway(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	b, _ := r.artifact(2, 1<<20)
	r.commit(r.input(1, a))
	shut := func(gen uint64) {
		in := r.input(gen, b)
		for _, e := range in.Want.Exports {
			e.Allow = []schema.Addr{{Kind: "host", Name: "another"}}
		}
		r.commit(in)
	}
	r.clients.edit(loopback, func(c *provider.Client) { c.Generation = 1 })
	r.mustDial(nameOf("arch", a) + bootA).nc.Close()
	r.events.wait(t, "detach", kind(provider.EventDetach))
	shut(2)
	for _, name := range []string{"sealed", nameOf("sealed", a), "arch", nameOf("arch", a) + bootA} {
		r.wantRefused(name, "pinned to a generation that allowed it")
	}
	if l := (handler{r.Provider}).List(t.Context(), nbd.Peer{Remote: netip.AddrPortFrom(loopback, 1)}); len(l) != 0 {
		t.Errorf("listed: %+v", l)
	}
	if ans := r.Answer(provider.Query{Generation: 1, Host: hostWS01, Address: loopback}); len(ans) != 1 || ans[0].Fail == "" {
		t.Errorf("Answer: %+v", ans)
	}
	r.retire()
	r.wantRefused(nameOf("arch", a)+bootA, "known only from its overlay")

	in := r.input(3, b) // removed: what is there keeps the list that it had
	in.Want.Exports, in.Want.Entries = nil, nil
	r.commit(r.input(1, a))
	r.commit(in)
	r.mustDial(nameOf("sealed", a))
}

func TestAccess(t *testing.T) {
	other := schema.Addr{Kind: "subnet", Name: "other"}
	for _, c := range []struct {
		name   string
		allow  []schema.Addr
		client func(*provider.Client)
		ok     bool
	}{
		{"no list", nil, nil, true},
		{"its subnet", []schema.Addr{other, subnetLAN}, nil, true},
		{"itself", []schema.Addr{hostWS01}, nil, true},
		{"another subnet", []schema.Addr{other}, nil, false},
		{"another host", []schema.Addr{{Kind: "host", Name: "ws", Key: "ws02"}}, nil, false},
		{"by address", []schema.Addr{subnetLAN}, func(c *provider.Client) { c.Subnet = schema.Addr{} }, true},
		{"by address, outside", []schema.Addr{other}, func(c *provider.Client) { c.Subnet = schema.Addr{} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			a, _ := r.artifact(1, 1<<20)
			in := r.input(1, a)
			in.Want.Exports[0].Allow, in.Want.Exports[1].Allow = c.allow, c.allow
			r.commit(in)
			if c.client != nil {
				r.clients.edit(loopback, c.client)
			}
			h := handler{r.Provider}
			peer := nbd.Peer{Remote: netip.AddrPortFrom(loopback, 1)}
			listed := h.List(t.Context(), peer)
			if got := len(listed) == 2; got != c.ok {
				t.Errorf("listed: %+v", listed)
			}
			for _, name := range []string{nameOf("arch", a), nameOf("sealed", a), "arch", "sealed", "sealed" + bootA} {
				_, err := h.Info(t.Context(), peer, name)
				if (err == nil) != c.ok || err != nil && !errors.Is(err, nbd.ErrForbidden) {
					t.Errorf("Info(%s): %v", name, err)
				}
				if c.ok {
					r.mustDial(name)
				} else {
					r.wantRefused(name, c.name)
				}
			}
			if !c.ok {
				e := r.events.wait(t, "denial", kind(provider.EventDenied))
				if !strings.Contains(e.Err, "allow") || e.Host != hostWS01 {
					t.Errorf("%+v", e)
				}
			}
			ans := r.Answer(provider.Query{Host: hostWS01, Subnet: func() schema.Addr { cl, _ := r.clients.ByAddr(loopback); return cl.Subnet }(), Address: loopback})
			if len(ans) != 1 || (ans[0].Fail == "") != c.ok {
				t.Errorf("Answer: %+v", ans)
			}
		})
	}
}

// What a session remembers of its machine is from its last acknowledgement. After a
// move, those who are up were refused under the new names; and one that lost its host
// block went on in its name.
func TestAccessGoesByWhatIsServedNow(t *testing.T) {
	moved, ws02 := schema.Addr{Kind: "subnet", Name: "moved"}, schema.Addr{Kind: "host", Name: "ws", Key: "ws02"}
	for _, c := range []struct {
		name string
		edit func(*schema.Desired)
		ok   bool
	}{
		{"subnet moved", func(d *schema.Desired) {
			d.Subnets[0].Addr, d.Exports[0].Allow = moved, []schema.Addr{moved}
		}, true},
		{"host moved", func(d *schema.Desired) {
			d.Hosts[0].Addr, d.Exports[0].Allow = ws02, []schema.Addr{ws02}
		}, true},
		{"host is another machine", func(d *schema.Desired) {
			d.Hosts[0].MAC, d.Exports[0].Allow = "52:54:00:00:00:99", []schema.Addr{hostWS01}
		}, false},
		{"subnet has other addresses, and another one has its own", func(d *schema.Desired) {
			other := *d.Subnets[0]
			other.Addr = moved
			d.Subnets[0].CIDR, d.Exports[0].Allow = netip.MustParsePrefix("10.9.0.0/24"), []schema.Addr{subnetLAN}
			d.Subnets = append(d.Subnets, &other)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			a, _ := r.artifact(1, 1<<20)
			r.commit(r.input(1, a))
			in := r.input(2, a)
			c.edit(in.Want)
			r.commit(in)
			name := in.Want.Exports[0].WireFamily()
			_, err := handler{r.Provider}.Info(t.Context(), nbd.Peer{Remote: netip.AddrPortFrom(loopback, 1)}, name)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, nbd.ErrForbidden) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestUnknownMachine(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	r.clients.mu.Lock()
	clear(r.clients.m)
	r.clients.mu.Unlock()
	r.wantRefused(nameOf("sealed", a), "unknown machine")
	if e := r.events.wait(t, "denial", kind(provider.EventDenied)); e.Addr != loopback || !strings.Contains(e.Err, "no machine is known") {
		t.Errorf("%+v", e)
	}
	if l := (handler{r.Provider}).List(t.Context(), nbd.Peer{Remote: netip.AddrPortFrom(loopback, 1)}); len(l) != 0 {
		t.Errorf("listed: %+v", l)
	}
}

func TestAnswer(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.input(4, a)
	x, err := r.Prepare(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	root := func(name string, mode schema.ExportMode, line int) []provider.Answer {
		return []provider.Answer{{
			Kind: provider.AnswerRoot, Provider: "export", Protocol: "nbd", Name: nameOf(name, a), Server: r.addr.String(),
			Size: 1 << 20, Digest: a.Root.Digest, Mode: string(mode), Range: schema.Range{File: "site.hcl", Line: line, Column: 1},
		}}
	}
	cow, ro := root("arch", schema.CopyOnWrite, 20), root("sealed", schema.ReadOnly, 30)
	queries := []struct {
		name string
		q    provider.Query
		want []provider.Answer
	}{
		{"its own entry", provider.Query{Host: hostWS01}, cow},
		{"the only subnet's first entry", provider.Query{MAC: testMAC}, ro},
		{"the subnet of the address", provider.Query{Address: loopback}, ro},
		{"no subnet", provider.Query{Address: netip.MustParseAddr("10.0.0.1")}, nil},
		{"a subnet that is not there", provider.Query{Subnet: serverMe}, nil},
		{"what its kernel line names", provider.Query{Host: hostWS01, Root: nameOf("sealed", a)}, ro},
		{"what nothing serves", provider.Query{Host: hostWS01, Root: "sealed@000000000000"}, nil},
	}
	for _, c := range queries {
		if diff := diffOf(c.want, x.Answer(c.q)); diff != "" {
			t.Errorf("prepared, %s: %s", c.name, diff)
		}
	}
	x.Commit()
	for _, c := range queries {
		for _, gen := range []uint64{0, 4} {
			c.q.Generation = gen
			if diff := diffOf(c.want, r.Answer(c.q)); diff != "" {
				t.Errorf("generation %d, %s: %s", gen, c.name, diff)
			}
		}
		c.q.Generation = 5
		if got := r.Answer(c.q); got != nil {
			t.Errorf("an unknown generation answers %+v", got)
		}
	}
}

func TestNames(t *testing.T) {
	for raw, want := range map[string]request{
		"arch":                               {Name: "arch", Family: "arch"},
		"arch@0123456789ab":                  {Name: "arch@0123456789ab", Family: "arch"},
		"arch@0123456789ab+x-1":              {Name: "arch@0123456789ab", Family: "arch", Instance: "x-1"},
		"a.b-c_d+" + strings.Repeat("x", 64): {Name: "a.b-c_d", Family: "a.b-c_d", Instance: strings.Repeat("x", 64)},
	} {
		if got, err := parseName(raw); err != nil || got != want {
			t.Errorf("%s: %+v %v", raw, got, err)
		}
	}
	for _, raw := range []string{
		"", "+", "arch+", "+x", "arch+a+b", "arch+" + strings.Repeat("x", 65), "arch+../x", "arch+a b", "@", "@x",
		"../arch", "a/b", "arch\x00", ".arch", strings.Repeat("x", 4096),
	} {
		if got, err := parseName(raw); !errors.Is(err, nbd.ErrForbidden) {
			t.Errorf("%q: %+v %v", raw, got, err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("arch@0123456789ab+fb34709d-1dc9-49f4-885f-782943d4adb7")
	f.Add("arch+")
	f.Add("../../etc+x")
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := parseName(raw)
		if err != nil {
			return
		}
		if strings.ContainsAny(r.Family, "/+@\x00") || strings.HasPrefix(r.Family, ".") || strings.ContainsAny(r.Instance, "/.\x00") {
			t.Errorf("%q: %+v", raw, r)
		}
		back := r.Name
		if r.Instance != "" {
			back += "+" + r.Instance
		}
		if back != raw {
			t.Errorf("%q reads as %q", raw, back)
		}
	})
}
