package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/source"
)

func TestCauses(t *testing.T) {
	exit := exec.Command("sh", "-c", "exit 3").Run()
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, CauseDisk},
		{fmt.Errorf("image.a: %w", syscall.EDQUOT), CauseDisk},
		{&net.OpError{Op: "listen", Net: "udp", Err: &net.AddrError{Err: "x"}}, CauseOther},
		{&net.OpError{Op: "listen", Net: "udp", Err: syscall.EADDRINUSE}, CausePort},
		{&net.OpError{Op: "listen", Net: "udp", Err: syscall.EACCES}, CausePermission},
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}, CauseNetwork},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.EPERM}, CausePermission},
		{fmt.Errorf("fetch: %w", &url.Error{Op: "Get", URL: "http://x", Err: errors.New("EOF")}), CauseNetwork},
		{fmt.Errorf("fetch: %w", &net.DNSError{Err: "no such host"}), CauseNetwork},
		{fmt.Errorf("%w: refused", source.ErrUnreachable), CauseNetwork},
		{fmt.Errorf("image.a: mke2fs: %w", exit), CauseProgram},
		{fmt.Errorf("image.a: mke2fs: %w: %w", syscall.ENOSPC, exit), CauseDisk},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}, CauseOther}, // an errno is a net.Error too
		{errors.New("something"), CauseOther},
	} {
		if got := causeOf(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

// Each cause has its first wait and its longest, and waits double in between.
func TestBackOffByCause(t *testing.T) {
	for _, cause := range []string{CauseDisk, CausePort, CausePermission, CauseNetwork, CauseProgram, CauseOther} {
		first, most := waits(cause)
		if first < time.Second || most < 10*first || most > time.Hour {
			t.Errorf("%s: %v to %v", cause, first, most)
		}
		var b backoff
		for want := first; ; want *= 2 {
			got := b.next("a", cause, retryUnit)
			if got != min(want, most) {
				t.Fatalf("%s: %v, want %v", cause, got, min(want, most))
			}
			if want > most {
				break
			}
		}
		if got := b.next("b", cause, retryUnit); got != first {
			t.Errorf("%s: another revision waits %v, want %v", cause, got, first)
		}
	}
	var b backoff
	b.next("a", CauseDisk, retryUnit)
	b.next("a", CauseDisk, retryUnit)
	if got := b.next("a", CausePort, retryUnit); got != 2*time.Second {
		t.Errorf("another cause waits %v", got)
	}
	if got := b.next("c", CauseOther, time.Millisecond); got != time.Millisecond {
		t.Errorf("with another unit %v", got)
	}
}
