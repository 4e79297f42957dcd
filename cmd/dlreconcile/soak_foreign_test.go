package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// soakTools is the address of programs that cannot be told one.
	soakTools = "127.0.9.9"
	// soakToolsBeat is how often each of them begins anew, if it is done by then.
	soakToolsBeat = time.Second
)

// foreign are clients of other people's that load and compare what the newest
// generation offers, each as often as it can at soakToolsBeat.
type foreign struct {
	load   *soakLoad
	dir    string
	counts map[string]*atomic.Int64
}

func newForeign(l *soakLoad, dir string) *foreign {
	f := &foreign{load: l, dir: dir, counts: map[string]*atomic.Int64{}}
	for name := range f.programs() {
		f.counts[name] = &atomic.Int64{}
	}
	return f
}

func (f *foreign) programs() map[string]func(*rand.Rand, string) error {
	return map[string]func(*rand.Rand, string) error{
		"curl": func(c *rand.Rand, to string) error {
			return f.file(c, to, func(path string) *exec.Cmd {
				return exec.Command("curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--output", to, "http://"+mixServer+"/"+path)
			})
		},
		"tftp-hpa": func(c *rand.Rand, to string) error {
			return f.file(c, to, func(path string) *exec.Cmd {
				return exec.Command("tftp", "-m", "octet", mixServer, "-c", "get", path, to)
			})
		},
		"atftp": func(c *rand.Rand, to string) error {
			return f.file(c, to, func(path string) *exec.Cmd {
				return exec.Command("atftp", "--option", "blksize 1428", "--get", "--remote-file", path, "--local-file", to, mixServer)
			})
		},
		"nbdcopy": func(_ *rand.Rand, to string) error {
			return f.root(func(uri, want string) error {
				if err := quietly(exec.Command("nbdcopy", uri, to)); err != nil {
					return err
				}
				return sameFiles(to, want)
			})
		},
		"qemu-img": func(_ *rand.Rand, _ string) error {
			return f.root(func(uri, want string) error {
				return quietly(exec.Command("qemu-img", "compare", "-f", "raw", "-F", "raw", uri, want))
			})
		},
		// One connection that lasts for many switches.
		"nbdsh": func(c *rand.Rand, _ string) error {
			return f.root(func(uri, want string) error {
				sh := exec.Command("nbdsh", "--uri", uri, "--command", fmt.Sprintf(`
import random, time
random.seed(%d)
want = open(%q, "rb").read()
for i in range(400):
    n = random.choice([512, 4096, 65536])
    at = random.randrange(0, len(want) - n)
    if h.pread(n, at) != want[at:at + n]:
        raise SystemExit("%%d bytes at %%d are not those of the image" %% (n, at))
    time.sleep(0.02)
`, c.Uint32(), want))
				sh.Env = append(os.Environ(), "PATH=/usr/bin:/bin") // Debian's Python has the library
				return quietly(sh)
			})
		},
	}
}

// run lets all of them work until the load is over.
func (f *foreign) run() {
	var wg sync.WaitGroup
	for name, work := range f.programs() {
		wg.Go(func() {
			chance := rand.New(rand.NewPCG(2, uint64(len(name))))
			to := filepath.Join(f.dir, "got-"+name)
			beat := time.NewTicker(soakToolsBeat)
			defer beat.Stop()
			for f.load.more(beat) {
				if err := work(chance, to); err != nil {
					f.load.fail("%s: %v", name, err)
				}
				f.counts[name].Add(1)
			}
		})
	}
	wg.Wait()
}

// file loads one of the files that are offered.
func (f *foreign) file(chance *rand.Rand, to string, program func(path string) *exec.Cmd) error {
	offer := f.load.ledger.offer.Load()
	path := offer.paths[chance.IntN(len(offer.paths))]
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := quietly(program(path)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	content, err := os.ReadFile(to)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f.load.ledger.saw(path, content)
	return nil
}

// root gives work the URI of the root that is offered, and a file that holds the same.
func (f *foreign) root(work func(uri, want string) error) error {
	offer := f.load.ledger.offer.Load()
	name := "tools@" + strings.TrimPrefix(offer.digest, "sha256:")[:12]
	if err := work("nbd://"+mixServer+"/"+name, f.want(offer.digest)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// want is where the content of an artifact lies for those that compare files.
func (f *foreign) want(digest string) string {
	return filepath.Join(f.dir, "want-"+strings.TrimPrefix(digest, "sha256:"))
}

// quietly runs a program, and tells what it said when it fails.
func quietly(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(tail(out, 500)))
	}
	return nil
}

func sameFiles(a, b string) error {
	x, err := os.ReadFile(a)
	if err != nil {
		return err
	}
	y, err := os.ReadFile(b)
	if err != nil {
		return err
	}
	if !bytes.Equal(x, y) {
		return errors.New("it is not what the image holds")
	}
	return nil
}
