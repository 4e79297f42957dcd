package bootloader

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// foreign is the site on 127.0.0.0/24, where another DHCP server gives out the
// addresses, with PXELINUX beside iPXE; ws01 has 127.0.0.11 there.
func foreign(d *schema.Desired) *schema.Desired {
	px := addr("bootloader", "pxelinux", "px")
	d.Bootloaders = append(d.Bootloaders, &schema.Bootloader{Meta: meta(px, 90), Entries: []schema.Addr{arch}})
	s := d.Subnets[0]
	s.CIDR, s.Mode, s.Boot = netip.MustParsePrefix("127.0.0.0/24"), schema.ModeProxy, append(s.Boot, px)
	d.Hosts[0].Address, d.Hosts[0].Args = netip.MustParseAddr("127.0.0.11"), []string{"first"}
	return d
}

// ask gives the text or the name of what a client gets, and the id of the tree.
func (b *bench) ask(t *testing.T, a asked) (string, string) {
	t.Helper()
	of, err := b.fetch(a)
	if err != nil {
		t.Fatalf("%+v: %v", a, err)
	}
	defer of.Release()
	p := make([]byte, of.Size())
	if _, err := of.ReadAt(p, 0); err != nil && err != io.EOF || digest(p) != of.Digest() {
		t.Fatalf("%+v: %v, digest %s, want %s", a, err, digest(p), of.Digest())
	}
	if of.blob == nil {
		return string(p), of.tree
	}
	return of.name, of.tree
}

func from(a string) netip.Addr { return netip.MustParseAddr(a) }

func TestAliases(t *testing.T) {
	b := newBench(t)
	b.run()
	d := loopback(t, foreign(site()))
	b.prepare(d).Commit()
	base := "http://" + d.Servers[0].HTTP.Listen.String() + "/"
	tab := b.pub.Load().ByGen[1]
	anyone, one, two := tab.offers[provider.TreeKey{Subnet: lan}], tab.offers[provider.TreeKey{Subnet: lan, Host: ws01}], tab.offers[provider.TreeKey{Subnet: lan, Host: ws02}]
	for name, tc := range map[string]struct {
		ask  asked
		text string // what is in it; a file's name where it is a program
		of   *offer
		role provider.AnswerKind
	}{
		"a program":               {asked{from("127.0.0.5"), "undionly.kpxe", false}, "undionly.kpxe", anyone[0], provider.AnswerLoader},
		"in some folder":          {asked{from("127.0.0.5"), "pxe/efi/ipxe.efi", false}, "ipxe.efi", anyone[0], provider.AnswerLoader},
		"the script":              {asked{from("127.0.0.5"), "boot.ipxe", false}, "chain --replace " + base + "boot.ipxe-01-${netX/mac:hexhyp} ||", anyone[0], provider.AnswerScript},
		"the script of a machine": {asked{from("127.0.0.5"), "boot.ipxe-01-52-54-00-00-00-02", true}, "chain --replace " + base + two[0].tree.path("boot.ipxe") + " ||", two[0], provider.AnswerScript},
		"of no such machine":      {asked{from("127.0.0.5"), "boot.ipxe-01-nonsense", true}, anyone[0].tree.path("boot.ipxe"), anyone[0], provider.AnswerScript},
		"of a reserved address":   {asked{from("127.0.0.11"), "boot.ipxe-01-", true}, one[0].tree.path("boot.ipxe"), one[0], provider.AnswerScript},
		"of the second loader":    {asked{from("127.0.0.11"), "pxelinux.cfg/default", false}, one[1].tree.path(""), one[1], provider.AnswerScript},
		"a MAC in the name":       {asked{from("127.0.0.5"), "x/pxelinux.cfg/01-52-54-00-00-00-02", false}, two[1].tree.path(""), two[1], provider.AnswerScript},
		"a MAC beats the address": {asked{from("127.0.0.11"), "pxelinux.cfg/01-52-54-00-00-00-02", false}, two[1].tree.path(""), two[1], provider.AnswerScript},
		"somebody else's MAC":     {asked{from("127.0.0.11"), "pxelinux.cfg/01-52-54-00-00-00-99", false}, anyone[1].tree.path(""), anyone[1], provider.AnswerScript},
		"an iPXE told an iPXE":    {asked{from("127.0.0.5"), "undionly.kpxe", true}, "chain --replace", anyone[0], provider.AnswerScript},
	} {
		text, id := b.ask(t, tc.ask)
		if !strings.Contains(text, tc.text) || id != tc.of.tree.id {
			t.Errorf("%s: tree %s, want %s:\n%s\nwant %q", name, id, tc.of.tree.id, text, tc.text)
		}
		if calls := b.boots.calls(); !slices.Equal(calls, []string{tc.ask.from.String() + " " + string(tc.role)}) {
			t.Errorf("%s: sessions were asked for %v", name, calls)
		}
	}
	// Nothing is written for what means nothing.
	for _, a := range []asked{
		{from("127.0.1.5"), "undionly.kpxe", false}, // no subnet of ours
		{from("126.0.0.1"), "pxelinux.cfg/01-52-54-00-00-00-01", false},
		{from("127.0.0.5"), "nope", false}, {from("127.0.0.5"), "nope.efi", false}, {from("127.0.0.5"), "", false},
		{from("127.0.0.5"), "b/x", false}, {from("127.0.0.5"), "b/" + one[0].tree.id + "/nope", false},
		{from("127.0.0.5"), "pxelinux.cfg/564d0000-0000-0000-0000-525400000002", false}, {from("127.0.0.5"), "x//pxelinux.cfg/7F000005", false},
		{from("127.0.0.11"), "/pxelinux.cfg/7F00000B", false}, {from("127.0.0.5"), "pxelinux.cfg/01-52-54-00-00-00", false},
		{from("127.0.0.5"), "arch/vmlinuz", false}, {from("127.0.0.5"), "machine.img", false},
		{netip.Addr{}, "undionly.kpxe", false}, {from("fe80::1"), "undionly.kpxe", false},
	} {
		if of, err := b.fetch(a); !errors.Is(err, fs.ErrNotExist) || of != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
	if calls := b.boots.calls(); calls != nil {
		t.Errorf("sessions were asked for %v", calls)
	}
	b.boots.err = errors.New("disk full")
	if _, err := b.fetch(asked{from("127.0.0.5"), "undionly.kpxe", false}); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a session that cannot be kept: %v", err) // the client must try again
	}
}

// A machine that came by an alias stays on the generation that it began with, until
// it boots again.
func TestAliasesFollowTheBootSession(t *testing.T) {
	b := newBench(t)
	b.run()
	b.prepare(loopback(t, foreign(site()))).Commit()
	slow, fast := from("127.0.0.5"), from("127.0.0.6")
	_, first := b.ask(t, asked{slow, "undionly.kpxe", false})
	b.art = b.artifact("two")
	b.prepare(loopback(t, foreign(site()))).Commit()
	b.ask(t, asked{fast, "undionly.kpxe", false})
	ids := map[netip.Addr]string{}
	for _, a := range []netip.Addr{slow, fast} {
		for _, name := range []string{"boot.ipxe", "undionly.kpxe", "boot.ipxe-01-52-54-00-00-00-99"} { // told again: iPXE gets its script
			text, id := b.ask(t, asked{a, name, true})
			if !strings.Contains(text, "b/"+id+"/") && !strings.Contains(text, "/boot.ipxe-01-${netX/mac:hexhyp} ||") {
				t.Errorf("%s leads from tree %s to another:\n%s", name, id, text)
			}
			if was := ids[a]; was != "" && was != id {
				t.Errorf("%s: tree %s, and then %s", a, was, id)
			}
			ids[a] = id
		}
	}
	if ids[slow] != first || ids[fast] == first {
		t.Errorf("one began on generation 1 and one on 2: %v", ids)
	}
	if _, id := b.ask(t, asked{slow, "undionly.kpxe", false}); id != ids[fast] {
		t.Errorf("booting again gives tree %s, want %s", id, ids[fast])
	}
	// One whose generation is not served any more goes on with the current one.
	b.boots.by[fast] = provider.Client{MAC: provider.AddressMAC(fast), Generation: 1}
	b.Retire(t.Context(), provider.Live{})
	if _, id := b.ask(t, asked{fast, "boot.ipxe", true}); id != ids[fast] {
		t.Errorf("after the retirement: tree %s", id)
	}
	// One that is up on an older generation may boot something that only the newer has.
	b.clients[slow] = provider.Client{MAC: mac02, Host: ws02, Subnet: lan, Generation: 2}
	d := loopback(t, foreign(site()))
	d.Bootloaders[0].Addr.Name, d.Subnets[0].Boot[0].Name = "other", "other"
	d.Subnets[0].Boot = d.Subnets[0].Boot[:1]
	b.prepare(d).Commit()
	if text, _ := b.ask(t, asked{slow, "undionly.kpxe", false}); text != "undionly.kpxe" {
		t.Error(text)
	}
}

// Who a client is, by what it was given and what it asks for.
func TestWhoAsks(t *testing.T) {
	b := newBench(t)
	const name = "grub/grub.cfg-01-52-54-00-00-00-02"
	here, reserved, away := from("127.0.0.5"), from("127.0.0.11"), from("10.3.0.1")
	one, stranger := provider.MAC{0x52, 0x54, 0, 0, 0, 1}, provider.MAC{0x52, 0x54, 0, 0, 0, 0x99}
	byReservation := provider.Client{MAC: one, Host: ws01, Subnet: lan}
	acknowledged := provider.Client{MAC: stranger, Subnet: lan, Session: "s"}
	proxied, disabled, ours := foreign(site()), foreign(site()), foreign(site())
	disabled.Subnets[0].Mode, ours.Subnets[0].Mode = schema.ModeServer, schema.ModeServer
	disabled.Servers[0].DHCP.Disabled = true
	type want struct {
		mac      provider.MAC
		host     schema.Addr
		sure, ok bool
	}
	for what, tc := range map[string]struct {
		c           provider.Client
		at          netip.Addr
		name        string
		other, ours want // where another server gives out addresses, and where ours does
	}{
		"nobody knows":        {provider.Client{}, here, "boot.ipxe", want{ok: true}, want{}},
		"by its address":      {provider.Client{MAC: provider.AddressMAC(here)}, here, name, want{mac: mac02, sure: true, ok: true}, want{mac: provider.AddressMAC(here)}},
		"by the name":         {provider.Client{}, here, name, want{mac: mac02, sure: true, ok: true}, want{}},
		"reserved":            {byReservation, reserved, "boot.ipxe", want{mac: one, host: ws01, ok: true}, want{one, ws01, true, true}},
		"reserved, and says":  {byReservation, reserved, "boot.ipxe-01-52-54-00-00-00-01", want{one, ws01, true, true}, want{one, ws01, true, true}},
		"reserved for others": {byReservation, reserved, name, want{mac: mac02, sure: true, ok: true}, want{one, ws01, true, true}},
		"its session":         {acknowledged, here, name, want{mac: stranger, sure: true, ok: true}, want{mac: stranger, sure: true, ok: true}},
		"a session elsewhere": {byReservation, here, name, want{one, ws01, true, true}, want{one, ws01, true, true}},
		"no subnet":           {provider.Client{}, away, name, want{}, want{}},
		"known, no subnet":    {acknowledged, away, name, want{mac: stranger, sure: true, ok: true}, want{mac: stranger, sure: true, ok: true}},
	} {
		for how, d := range map[string]*schema.Desired{"proxied": proxied, "disabled": disabled, "ours": ours} {
			q, sure, ok := newTable(b.input(d)).whoAsks(tc.c, tc.at, tc.name)
			expect := tc.other
			if how == "ours" {
				expect = tc.ours
			}
			if got := (want{q.MAC, q.Host, sure, ok}); got != expect {
				t.Errorf("%s, %s: %+v, want %+v", what, how, got, expect)
			}
			if ok && tc.at != away && q.Subnet != lan {
				t.Errorf("%s, %s: on %v", what, how, q.Subnet)
			}
		}
	}
}

// Where our DHCP gives out the addresses, one that it did not is a stranger's, and
// what strangers ask for is not written down.
func TestAliasesAreForClients(t *testing.T) {
	b := newBench(t)
	b.run()
	d := foreign(site())
	d.Subnets[0].Mode = schema.ModeServer
	b.prepare(loopback(t, d)).Commit()
	for _, name := range []string{"undionly.kpxe", "boot.ipxe", "pxelinux.cfg/01-52-54-00-00-00-02"} {
		if _, err := b.fetch(asked{from("127.0.0.5"), name, false}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if calls := b.boots.calls(); calls != nil {
		t.Errorf("sessions were asked for %v", calls)
	}
	known := provider.Client{MAC: mac02, Host: ws02, Subnet: lan}
	b.clients[from("127.0.0.5")], b.boots.by[from("127.0.0.5")] = known, known
	two := b.pub.Load().ByGen[1].offers[provider.TreeKey{Subnet: lan, Host: ws02}]
	for name, o := range map[string]*offer{"undionly.kpxe": two[0], "boot.ipxe": two[0], "pxelinux.cfg/564d0000-0000": two[1]} {
		if _, id := b.ask(t, asked{from("127.0.0.5"), name, false}); id != o.tree.id {
			t.Errorf("%s: tree %s, want %s", name, id, o.tree.id)
		}
	}
}

// A loader that looks in its tree for a configuration of its own finds the tree's.
func TestNamesWithinATree(t *testing.T) {
	b := newBench(t)
	b.run()
	b.prepare(loopback(t, foreign(site()))).Commit()
	tab := b.pub.Load().ByGen[1]
	px := tab.offers[provider.TreeKey{Subnet: lan}][1].tree
	want := px.file("pxelinux.cfg/default").text
	for _, name := range []string{"pxelinux.cfg/default", "pxelinux.cfg/01-52-54-00-00-00-02", "pxelinux.cfg/7F000005"} {
		if got, id := b.ask(t, asked{from("127.0.0.5"), px.path(name), false}); got != want || id != px.id {
			t.Errorf("%s: tree %s\n%s", name, id, got)
		}
	}
	if calls := b.boots.calls(); calls != nil {
		t.Errorf("a digested name asked the sessions: %v", calls)
	}
	other := tab.offers[provider.TreeKey{Subnet: lan}][0].tree
	if of, err := b.fetch(asked{from("127.0.0.5"), other.path("pxelinux.cfg/default"), false}); err == nil {
		t.Errorf("another loader's tree has %s", of.name)
	}
}

// Aliases over the wire: files, events, and the sign by which an iPXE is known.
func TestAliasesOverTheWire(t *testing.T) {
	providertest.Need(t, "curl", "tftp")
	b := newBench(t)
	b.run()
	d := loopback(t, foreign(site()))
	x := b.prepare(d)
	x.Commit()
	one := b.pub.Load().ByGen[1].offers[provider.TreeKey{Subnet: lan}][0]
	httpAt, tftpAt := d.Servers[0].HTTP.Listen.String(), d.Servers[0].TFTP.Listen
	host, port, _ := net.SplitHostPort(tftpAt.String())
	out := filepath.Join(t.TempDir(), "out")
	for _, cmd := range []*exec.Cmd{
		exec.Command("curl", "-sSf", "-o", out, "http://"+httpAt+"//pxe//undionly.kpxe"),
		exec.Command("tftp", "-m", "binary", host, port, "-c", "get", "/pxe/undionly.kpxe", out),
	} {
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, said)
		}
		ev := b.sink.wait(t, func(provider.Event) bool { return true })
		want := provider.Event{
			Kind: provider.EventFile, At: ev.At, Asked: ev.Asked, Addr: loopbackAddr, Generation: 1, Protocol: ev.Protocol,
			Name: "pxe/undionly.kpxe", Role: provider.AnswerLoader, Tree: one.tree.id, Bytes: int64(len(undionly) * 500),
		}
		if d := cmp.Diff(want, ev, cmpAddr); d != "" {
			t.Error(d)
		}
	}
	// Text mode, as people use it, and from an iPXE.
	if said, err := exec.Command("tftp", "-m", "ascii", host, port, "-c", "get", "boot.ipxe", out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if text, _ := b.ask(t, asked{loopbackAddr, "boot.ipxe", false}); !strings.HasPrefix(readFile(t, out), text) {
		t.Errorf("in text mode: %q", readFile(t, out))
	}
	req, _ := http.NewRequest("GET", "http://"+httpAt+"/undionly.kpxe", nil)
	req.Header.Set("User-Agent", "iPXE/1.0.0+git-20190125.36a4c85-5.1")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); !strings.HasPrefix(string(body), "#!ipxe\n") {
		t.Errorf("an iPXE gets %.20q over HTTP", body)
	}
	c, err := net.Dial("udp4", tftpAt.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	script, _ := b.ask(t, asked{loopbackAddr, "boot.ipxe", true})
	peer.WriteToUDPAddrPort([]byte("\x00\x01undionly.kpxe\x00octet\x00blksize\x001432\x00tsize\x000\x00"), tftpAt)
	p := make([]byte, 2000)
	n, at, err := peer.ReadFromUDPAddrPort(p)
	if want := "\x00\x06blksize\x001432\x00tsize\x00" + strconv.Itoa(len(script)) + "\x00"; err != nil || string(p[:n]) != want {
		t.Errorf("an iPXE gets %q over TFTP, want %q", p[:n], want)
	}
	peer.WriteToUDPAddrPort([]byte("\x00\x05\x00\x08\x00"), at)
}

// Whatever is asked for, by whomever: an alias leads into one tree, and what leads
// nowhere costs nothing.
func FuzzAlias(f *testing.F) {
	b := newBench(f)
	b.run()
	b.prepare(loopback(f, foreign(site()))).Commit()
	tab := b.pub.Load().ByGen[1]
	id := tab.offers[provider.TreeKey{Subnet: lan}][0].tree.id
	for _, name := range []string{
		"boot.ipxe", "boot.ipxe-01-52-54-00-00-00-01", "undionly.kpxe", "a/ipxe.efi", "grub/grub.cfg-01-52-54-00-00-00-01", "grub.cfg-01-", "pxelinux.cfg/01-52-54-00-00-00-02",
		"pxelinux.cfg/", "pxelinux.0", "core.0", "b/" + id + "/boot.ipxe", "b//", "b/" + id + "/pxelinux.cfg/0A", "b/" + id, "pxelinux.cfg/01-zz-54-00-00-00-02",
	} {
		f.Add(name, uint32(0x7f000005), false)
		f.Add(name, uint32(0x7f00000b), true)
	}
	f.Fuzz(func(t *testing.T, name string, a uint32, byIPXE bool) {
		who := netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
		b.boots.calls()
		of, err := b.fetch(asked{who, name, byIPXE})
		calls := len(b.boots.calls())
		_, _, digested := split(name)
		if err != nil {
			if calls != 0 || of != nil {
				t.Fatalf("%q: %v after %d calls", name, err, calls)
			}
			return
		}
		defer of.Release()
		if tab.trees[of.tree] == nil || of.Size() == 0 {
			t.Fatalf("%q: %+v", name, of)
		}
		if digested != (calls == 0) || !digested && (calls != 1 || !tab.subnets[0].CIDR.Contains(who)) {
			t.Fatalf("%q of %s: %d calls", name, who, calls)
		}
		if !digested && of.blob == nil && !strings.Contains(of.bytes, "b/"+of.tree+"/") && !strings.Contains(of.bytes, "/boot.ipxe-01-${netX/mac:hexhyp} ||") {
			t.Fatalf("%q leads nowhere:\n%s", name, of.bytes)
		}
		if mac, ok := macIn(name); ok && !strings.HasSuffix(strings.ToLower(name), dashed(mac)) {
			t.Fatalf("%q names %s", name, mac)
		}
	})
}
