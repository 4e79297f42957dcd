package dhcp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

// lines keeps what a program prints, and wakes whoever waits for some of it.
type lines struct {
	mu   sync.Mutex
	all  []string
	more chan struct{} // closed and replaced with each line
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

func (l *lines) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
	close(l.more)
	l.more = make(chan struct{})
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// await waits for a line that holds text.
func (l *lines) await(ctx context.Context, text string) error {
	for {
		l.mu.Lock()
		more := l.more
		l.mu.Unlock()
		if strings.Contains(l.String(), text) {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("nothing said %q: %w", text, ctx.Err())
		}
	}
}

// start runs a program until the test ends, and gives what it prints.
func start(t *testing.T, cmd *exec.Cmd) *lines {
	t.Helper()
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	l, read := newLines(), make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(r); s.Scan(); {
			l.add(s.Text())
		}
	}()
	t.Cleanup(func() {
		w.Close()
		<-read
	})
	faultnet.Start(t, cmd)
	return l
}

// dnsmasq runs one that does only what it is told, and waits until it does.
func dnsmasq(t *testing.T, at *faultnet.Space, args ...string) *lines {
	t.Helper()
	providertest.Need(t, "dnsmasq")
	cmd := at.Command(context.Background(), "dnsmasq", append([]string{"--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root",
		"--log-facility=-", "--log-dhcp", "--bind-interfaces", "--interface=" + faultnet.Interface, "--pid-file=", "--dhcp-leasefile=" + t.TempDir() + "/leases"}, args...)...)
	l := start(t, cmd)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := l.await(ctx, "started, version"); err != nil {
		t.Fatal(err, l)
	}
	return l
}

// foreign is a DHCP server that knows nothing of boot files.
func foreign(t *testing.T, at *faultnet.Space, args ...string) *lines {
	t.Helper()
	return dnsmasq(t, at, append([]string{"--dhcp-range=10.0.0.100,10.0.0.150,255.255.255.0,1h", "--dhcp-authoritative", "--no-ping"}, args...)...)
}
