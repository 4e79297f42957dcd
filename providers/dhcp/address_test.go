package dhcp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

const childEnv = "DLRECONCILE_TEST_DHCP"

// TestServerInItsOwnNamespace is the server of TestInterfaceGoesAndComes: all of a
// process in its namespace, so that it can bind anew there. It prints its drift, a line
// of JSON each time it has changed, until its standard input ends.
func TestServerInItsOwnNamespace(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		return // another test starts it
	}
	d := newDaemon(t, "")
	d.run()
	x, err := d.Prepare(t.Context(), input(1, desired(), built()))
	if err != nil {
		t.Fatal(err)
	}
	x.Commit()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		bufio.NewReader(os.Stdin).ReadString(0)
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		b, err := json.Marshal(append([]provider.Drift{}, d.Drift()...))
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != last {
			last = string(b)
			fmt.Println("drift " + last)
		}
		select {
		case <-tick.C:
		case <-ended:
			return
		}
	}
}

// The server's address goes and comes; then its interface goes altogether, and
// comes back. Each is told, and machines get answers again without
// anybody's doing.
func TestInterfaceGoesAndComes(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
	cmd := server.Command(context.Background(), os.Args[0], "-test.run=^TestServerInItsOwnNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	said := start(t, cmd)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	count := 0
	// next waits for a line after those that were there that holds text.
	next := func(text string) {
		t.Helper()
		if err := said.awaitAfter(ctx, &count, text); err != nil {
			t.Fatal(err, said)
		}
	}
	boots := func(mac provider.MAC) {
		t.Helper()
		m := newMachine(t, client, mac)
		_, err := m.Request(ctx)
		for range 3 { // a bridge may still be learning
			if err == nil {
				return
			}
			_, err = m.Request(ctx)
		}
		if err != nil {
			t.Fatalf("no lease: %v\n%s", err, said)
		}
	}
	next("drift []")
	boots(mac1)

	server.Run("ip", "addr", "del", "10.0.0.1/24", "dev", "eth0")
	next("no network interface has the address 10.0.0.1")
	server.Run("ip", "addr", "add", "10.0.0.1/24", "dev", "eth0")
	next("drift []")
	boots(mac2)

	// Another namespace's, for a while: the kernel takes it away from all sockets.
	space, _ := n.Bridge()
	server.Run("ip", "link", "set", "eth0", "netns", space)
	next("interface eth0: route ip+net: no such network interface")
	for _, args := range [][]string{
		{"-n", space, "link", "set", "eth0", "netns", server.Name},
		{"-n", server.Name, "addr", "add", "10.0.0.1/24", "dev", "eth0"},
		{"-n", server.Name, "link", "set", "eth0", "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	next("drift []")
	boots(provider.MAC{0x52, 0x54, 0, 0, 0, 3})
}

// awaitAfter waits for a line after the first seen ones that holds text, and counts it
// and those before it as seen.
func (l *lines) awaitAfter(ctx context.Context, seen *int, text string) error {
	for {
		l.mu.Lock()
		more := l.more
		for i := *seen; i < len(l.all); i++ {
			if strings.Contains(l.all[i], text) {
				*seen = i + 1
				l.mu.Unlock()
				return nil
			}
		}
		l.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("nothing said %q", text), ctx.Err())
		}
	}
}
