package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
)

// plantedLimit is within what time everything ends, whatever was planted: nothing hangs.
const plantedLimit = 30 * time.Second

// plant is what is put in the place of a part of an overlay.
type plant struct {
	at   string // "machine", "instance" and "export" are folders, others files
	what string // "link", "FIFO", "folder", "sparse": of a TiB, or "endless": never at its end
	why  string // the machine is refused; part of what the log says
}

func (p plant) isFolder() bool { return p.at == "machine" || p.at == "instance" || p.at == "export" }

func plants() []plant {
	var list []plant
	for _, at := range []string{"machine", "instance", "export"} {
		for _, what := range []string{"link", "FIFO"} {
			list = append(list, plant{at, what, "it is no folder"})
		}
	}
	for _, at := range []string{"meta.json", "data", "live", "flushed"} {
		large := "1099511627776 bytes, want"
		if at == "meta.json" {
			large = "it has more than 65536 bytes"
		}
		list = append(list, plant{at, "link", "it is a link"}, plant{at, "FIFO", "it is no file"}, plant{at, "sparse", large}, plant{at, "endless", "it is no file"}, plant{at, "folder", "it is no file"})
	}
	return list
}

// plantedMachine is a machine in whose overlay something is planted, or will be.
type plantedMachine struct {
	plant
	round   string
	number  int
	overlay string // folder of what it wrote over perhost
}

func (m *plantedMachine) String() string { return m.round + ": " + m.what + " for " + m.at }

func (m *plantedMachine) mac() string     { return fmt.Sprintf("52:54:00:00:01:%02x", m.number) }
func (m *plantedMachine) address() string { return fmt.Sprintf("10.77.1.%d", m.number) }
func (m *plantedMachine) folder() string  { return strings.ReplaceAll(m.mac(), ":", "-") }

func (m *plantedMachine) mark(export string) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "<%s %s>", m, export), 200)[:4096]
}

// resets says why its disk cannot be discarded by an order: "" is that it can.
func (m *plantedMachine) resets() string {
	switch {
	case m.at == "meta.json" && m.what == "folder":
		return "is a directory"
	case m.at == "machine", m.at == "instance", m.at == "export" && m.round == "running":
		return "it is no folder"
	}
	return ""
}

// instance names a boot of it.
func (m *plantedMachine) instance(boot int) string {
	return fmt.Sprintf("fb34709d-1dc9-49f4-9%03d-%012x", m.number, boot)
}

// path is where something is planted.
func (m *plantedMachine) path() string {
	switch m.at {
	case "machine":
		return filepath.Dir(filepath.Dir(m.overlay))
	case "instance":
		return filepath.Dir(m.overlay)
	case "export":
		return m.overlay
	}
	return filepath.Join(m.overlay, m.at)
}

// plantedSite is the site of TestPlantedInOverlays.
type plantedSite struct {
	*fiftySite
	ill      *lab.ClientNS // which has the addresses of all machines of plants
	base     string        // digest of the image, in hex
	image    []byte
	canaries string
}

// hosts are those of the machines, for site.hcl.
func (s *plantedSite) hosts(machines []*plantedMachine) string {
	var b strings.Builder
	for _, m := range machines {
		fmt.Fprintf(&b, "\nhost \"ill%d\" {\n  mac     = %q\n  address = %q\n}\n", m.number, m.mac(), m.address())
	}
	return b.String()
}

// put plants what a machine has, and keeps what was there: what a link leads to is a
// sound copy of it, so who follows it finds nothing wrong.
func (s *plantedSite) put(m *plantedMachine) {
	s.t.Helper()
	path, canary := m.path(), filepath.Join(s.canaries, fmt.Sprintf("%d", m.number))
	err := os.Mkdir(canary, 0o750)
	if out, e := exec.Command("cp", "-a", "--sparse=always", path, filepath.Join(canary, "there")).CombinedOutput(); e != nil {
		err = errors.Join(err, fmt.Errorf("%w: %s", e, out))
	}
	err = errors.Join(err, os.Rename(path, filepath.Join(canary, "was")))
	switch m.what {
	case "link":
		err = errors.Join(err, os.Symlink(filepath.Join(canary, "there"), path))
	case "FIFO":
		err = errors.Join(err, unix.Mkfifo(path, 0o600))
	case "folder":
		err = errors.Join(err, os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "letters"), nil, 0o600))
	case "sparse":
		err = errors.Join(err, os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40))
	case "endless":
		err = errors.Join(err, unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))) // as /dev/zero
	}
	if m.isFolder() && m.what == "link" {
		// What a store would clear away: files of its names, in folders without a record,
		// and empty folders, as deep as it goes.
		for _, d := range []string{"", "a", "a/b", "a/b/c", "empty"} {
			d = filepath.Join(canary, "there", d)
			err = errors.Join(err, os.MkdirAll(d, 0o755))
			if filepath.Base(d) == "empty" {
				continue
			}
			for _, f := range []string{"data", "live", "flushed", ".meta.json0", "letters"} {
				if _, e := os.Lstat(filepath.Join(d, f)); e == nil {
					continue // of the overlay
				}
				err = errors.Join(err, os.WriteFile(filepath.Join(d, f), m.mark(f), 0o640))
			}
		}
	}
	if err != nil {
		s.t.Fatalf("%s: %v", m, err)
	}
}

// witness says all of the canaries that somebody could have changed, the times of their
// inodes too.
func (s *plantedSite) witness() map[string]string {
	s.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(s.canaries, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == "was" { // a connection may have it open, and write to it
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		text := fmt.Sprint(info.Mode(), info.Size(), st.Uid, st.Gid, st.Nlink, st.Mtim, st.Ctim)
		if info.Mode().IsRegular() {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			h := sha256.New()
			if _, err := io.Copy(h, f); err != nil {
				return err
			}
			text += fmt.Sprintf(" %x", h.Sum(nil))
		}
		out[path] = text
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}
