package nbd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// haltPoll is how long, in ns, an idle processor of a virtual machine looks out for work
// before it is handed to the hypervisor.
const haltPoll = "/sys/module/haltpoll/parameters/guest_halt_poll_ns"

// linuxHaltPoll is what Linux sets it to (Documentation/virt/guest-halt-polling.rst).
const linuxHaltPoll = "200000"

// awake has idle processors do, until asleep is called or the benchmark ends, what Linux
// has them do unless its command line says otherwise. Where a virtual machine's halt at
// once, a batch of requests takes less than having a processor back from the hypervisor:
// then what is compared is who sleeps least. said is for the reader; asleep is nil where
// nothing was changed.
func awake(t testing.TB) (said string, asleep func()) {
	t.Helper()
	b, err := os.ReadFile(haltPoll)
	if errors.Is(err, fs.ErrNotExist) {
		return "idle processors: as this machine has it", nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if was := strings.TrimSpace(string(b)); was != "0" {
		return fmt.Sprintf("idle processors halt after %s ns, as this machine has it", was), nil
	}
	// Whatever ends this process ends that one's input.
	back := exec.Command("sh", "-c", `trap "" INT TERM HUP; read -r _; echo 0 >"$1"`, "sh", haltPoll)
	in, err := back.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	back.Stderr = os.Stderr
	if err := back.Start(); err != nil {
		t.Fatal(err)
	}
	asleep = sync.OnceFunc(func() {
		in.Close()
		if err := back.Wait(); err != nil {
			t.Errorf("%s is not what it was, 0: %v", haltPoll, err)
		}
	})
	t.Cleanup(asleep)
	if err := os.WriteFile(haltPoll, []byte(linuxHaltPoll), 0); err != nil {
		return fmt.Sprintf("idle processors halt at once: %v", err), nil
	}
	return fmt.Sprintf("idle processors halt after %s ns, as Linux has it; this machine: at once", linuxHaltPoll), asleep
}
