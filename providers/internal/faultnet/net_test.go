package faultnet_test

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTwoMachines(t *testing.T) {
	outside, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	n := faultnet.New(t)
	a, b := n.Space("a", "10.77.0.1/24"), n.Space("b", "10.77.0.2/24")
	var server net.PacketConn
	if err := a.Do(func() (err error) { server, err = net.ListenPacket("udp4", "10.77.0.1:7000"); return }); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var client net.Conn
	if err := b.Do(func() (err error) { client, err = net.Dial("udp4", "10.77.0.1:7000"); return }); err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	// The sockets are used from outside the namespaces.
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 100)
	got, from, err := server.ReadFrom(buf)
	if err != nil || string(buf[:got]) != "hello" || !strings.HasPrefix(from.String(), "10.77.0.2:") {
		t.Fatalf("got %q from %v: %v", buf[:got], from, err)
	}

	b.Unplug()
	client.Write([]byte("lost"))
	server.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, _, err := server.ReadFrom(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("unplugged, and yet: %v", err)
	}
	b.Plug()

	if out := b.Run("ip", "-br", "addr", "show", faultnet.Interface); !strings.Contains(out, "10.77.0.2/24") || !strings.Contains(out, "fe80::") {
		t.Errorf("addresses: %s", out)
	}
	now, err := net.Interfaces()
	if err != nil || len(now) != len(outside) {
		t.Errorf("interfaces outside: %d before, %d now (%v)", len(outside), len(now), err)
	}
}

func TestImpair(t *testing.T) {
	n := faultnet.New(t)
	a, b := n.Space("a", "10.77.0.1/24"), n.Space("b", "10.77.0.2/24")
	var server, client net.PacketConn
	if err := a.Do(func() (err error) { server, err = net.ListenPacket("udp4", "10.77.0.1:7000"); return }); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := b.Do(func() (err error) { client, err = net.ListenPacket("udp4", "10.77.0.2:7000"); return }); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// send gives how many of the datagrams arrive, in order, and how long the first
	// takes. What is left of an earlier call does not count.
	next := uint16(0)
	send := func(count int) (arrived int, first time.Duration) {
		t.Helper()
		start, from := time.Now(), next
		for range count {
			if _, err := client.WriteTo(binary.BigEndian.AppendUint16(nil, next), server.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			next++
		}
		for last, buf := -1, make([]byte, 10); ; {
			server.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, _, err := server.ReadFrom(buf); err != nil {
				return arrived, first
			}
			n := binary.BigEndian.Uint16(buf)
			if n < from {
				continue
			}
			if arrived++; arrived == 1 {
				first = time.Since(start)
			}
			if int(n) <= last {
				t.Errorf("%d came after %d", n, last)
			}
			last = int(n)
		}
	}
	if got, _ := send(100); got != 100 {
		t.Fatalf("the kernel's cable: %d of 100", got)
	}
	b.Impair(faultnet.Fault{Loss: 0.3, Delay: 30 * time.Millisecond, Seed: 1})
	if got, first := send(100); got < 40 || got > 95 || first < 30*time.Millisecond {
		t.Errorf("30%% loss, 30 ms: %d of 100, the first after %s", got, first)
	}
	b.Impair(faultnet.Fault{})
	b.Unplug()
	if got, _ := send(1); got != 0 {
		t.Error("unplugged, and yet something arrived")
	}
	b.Plug()
	for deadline := time.Now().Add(5 * time.Second); ; { // ARP asks again after a second
		if got, _ := send(1); got == 1 || time.Now().After(deadline) {
			break
		}
	}
	if got, _ := send(100); got != 100 {
		t.Errorf("repaired: %d of 100", got)
	}
}
