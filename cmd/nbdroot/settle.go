package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// settling makes the mounted root this machine's own. What is written is the same
// at every boot, and is not written again when it is there already. What cannot be
// done is told, and the rest is done.
//
// A root that keeps what is written to it over boots keeps files too that are not
// in the settings any more: only fstab knows which part of it is ours.
type settling struct {
	root     *root
	settings settings
	log      func(format string, args ...any) // for people who look
	problem  func(format string, args ...any) // for those who should
	problems int
	limits   limits
	address  string // of the boot interface, "52-54-00-00-00-07"; "" when it is not known
}

// unwritable is the error of a root that takes no writes although it is mounted for
// that: a machine that booted from it would not get far.
type unwritable struct{ error }

func (u unwritable) Unwrap() error { return u.error }

// maxTold bounds how many problems are told: the kernel log drops what comes too
// fast.
const maxTold = 6

func (s *settling) fail(format string, args ...any) {
	if s.problems++; s.problems <= maxTold {
		s.problem(format, args...)
	}
}

// settleVerb reads the words of settle, and settles.
func settleVerb(args []string, stderr io.Writer) error {
	fs := flags("settle", stderr)
	dir := fs.String("root", "", "")
	mac := fs.String("mac", "", "")
	hostname := fs.String("hostname", "", "")
	file := fs.String("settings", "/dlreconcile.json", "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 0 || *dir == "" || *mac == "" {
		return errors.New("settle: want --root and --mac")
	}
	r, err := openRoot(*dir)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	defer r.Close()
	s := &settling{root: r, log: openConsole(notice), problem: openConsole(alarm), limits: stateLimits()}
	if s.settings, err = loadSettings(*file); err != nil {
		s.fail("settle: %v", err)
	}
	return s.run(*mac, *hostname)
}

// run settles. hostname is DHCP's, "" when it gave none.
func (s *settling) run(mac, hostname string) error {
	ro, err := s.root.readOnly()
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if ro {
		s.log("the root is mounted read-only and has no overlay: it stays as the image has it")
		if !s.settings.empty() {
			s.fail("settle: the settings of this machine cannot be written to a read-only root")
		}
		return s.result()
	}
	if err := s.identity(mac); err != nil {
		return err
	}
	s.hostname(hostname)
	lines, over := s.states()
	lines = append(lines, s.mounts(over)...)
	files := s.files(s.root.under(over))
	slices.SortStableFunc(lines, func(a, b fstabLine) int { return strings.Compare(a.path, b.path) })
	s.fstab(lines)
	if len(lines)+files > 0 {
		s.log("settled: %d files, %d mounts", files, len(lines))
	}
	return s.result()
}

func (s *settling) result() error {
	switch {
	case s.problems == 0:
		return nil
	case s.problems > maxTold:
		s.problem("settle: and %d more", s.problems-maxTold)
	}
	return fmt.Errorf("settle: %d settings of this machine are not in force", s.problems)
}

// identity is the first to write, and finds out whether that works at all.
func (s *settling) identity(mac string) error {
	hw, err := parseMAC(mac)
	if err != nil {
		s.fail("settle: no machine-id: %v", err)
		return nil
	}
	s.address = strings.ReplaceAll(hw.String(), ":", "-")
	err = setMachineID(s.root, machineID(hw))
	for _, medium := range []error{syscall.EROFS, syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, medium) {
			return unwritable{fmt.Errorf("settle: %w", err)}
		}
	}
	if err != nil {
		s.fail("settle: no machine-id: %v", err)
	}
	return nil
}

// hostname: the host block's beats DHCP's, and that the image's, which all machines
// share.
func (s *settling) hostname(dhcp string) {
	name := s.settings.Hostname
	if name == "" {
		if name = dhcp; name == "" {
			return
		}
		if err := checkHostname(name); err != nil {
			s.log("DHCP's host name is left out: %v", err)
			return
		}
	}
	err := checkHostname(name)
	if err == nil {
		err = setHostname(s.root, name)
	}
	if err != nil {
		s.fail("settle: host name: %v", err)
	}
}

// states makes the state directories, and gives the lines that mount them, and where
// each lies by mount point (root.over).
func (s *settling) states() ([]fstabLine, map[string]string) {
	var lines []fstabLine
	dirs := map[string]string{}
	list := slices.Clone(s.settings.State)
	// One inside another has its mount point in the other's directory.
	slices.SortStableFunc(list, func(a, b stateSetting) int { return strings.Compare(a.Path, b.Path) })
	below := s.root.under(dirs)
	for _, st := range list {
		st.Key = cmp.Or(st.Key, s.address)
		dir, err := stateDir(st)
		if err == nil {
			err = s.unhidden()
		}
		var at, lies string
		if err == nil {
			st.Path, _ = cleanPath(st.Path)
			at, lies, err = makeState(below, st.Path, dir, s.limits)
		}
		if _, taken := dirs[at]; err == nil && taken {
			err = errTaken
		}
		if err != nil {
			s.fail("settle: state %.80q: %v", st.Path, err)
			continue
		}
		lines = append(lines, fstabLine{device: dir, path: st.Path, kind: "none", options: []string{"bind"}})
		dirs[at] = lies
	}
	return lines, dirs
}

// unhidden refuses a mount over the place where states are kept: they would be gone
// before they are mounted.
func (s *settling) unhidden() error {
	kept, err := s.root.folder(stateFolder)
	if err != nil {
		return err
	}
	defer kept.Close()
	for _, m := range s.settings.Mounts {
		p, err := cleanPath(m.Path)
		if err != nil {
			continue // told when it is its turn
		}
		at := p
		if f, err := s.root.open(p, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			at = f.Name()
			f.Close()
		}
		if inside(kept.Name(), at) {
			return fmt.Errorf("the mount at %s hides %s, where states are kept", p, stateFolder)
		}
	}
	return nil
}

// errTaken is a second mount at one place.
var errTaken = errors.New("something else is mounted there already")

// mounts makes the mount points, gives the lines, and adds the mount points to over,
// where the state directories are already.
func (s *settling) mounts(over map[string]string) []fstabLine {
	var lines []fstabLine
	states := s.root.under(maps.Clone(over))
	for _, m := range s.settings.Mounts {
		p, err := cleanPath(m.Path)
		l := fstabLine{device: m.Device, path: p, kind: m.Type, options: m.Options}
		if err == nil && (l.kind == "" || len(l.device)+len(l.kind) > maxPath) {
			err = fmt.Errorf("%.100q is not a type of file system", l.kind)
		}
		if l.device == "" {
			l.device = l.kind
		}
		at := p
		if err == nil {
			at, err = mountPoint(states, p)
		}
		if _, taken := over[at]; err == nil && taken {
			err = errTaken
		}
		if err != nil {
			s.fail("settle: mount %.80q: %v", m.Path, err)
			continue
		}
		lines, over[at] = append(lines, l), ""
	}
	return lines
}

// mountPoint makes a mount point, and gives its name without links. In the kernel's
// file systems it is made at boot.
func mountPoint(r *root, p string) (string, error) {
	f, err := r.folder(p)
	if errors.Is(err, errHidden) {
		return p, nil
	}
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// files writes the files into r, those below a state directory into that.
func (s *settling) files(r *root) (written int) {
	for _, f := range s.settings.Files {
		p, err := cleanPath(f.Path)
		a := attrs{mode: plain.mode, uid: f.Owner, gid: f.Group}
		if f.Mode != nil {
			a.mode = *f.Mode
		}
		const maxID = 1<<32 - 2 // -1 means "leave it" to chown(2)
		if err == nil && (a.mode > 0o7777 || a.uid < 0 || a.gid < 0 || a.uid > maxID || a.gid > maxID) {
			err = fmt.Errorf("mode %#o, owner %d and group %d are not those of a file", a.mode, a.uid, a.gid)
		}
		if err == nil {
			err = r.write(p, f.Content, a)
		}
		if err != nil {
			s.fail("settle: file %.80q: %v", f.Path, err)
			continue
		}
		written++
	}
	return written
}

// fstab puts the lines into fstab.
func (s *settling) fstab(lines []fstabLine) {
	text, a, err := s.root.text("/etc/fstab")
	if err == nil {
		if edited := editFstab(text, lines); edited != text {
			err = s.root.write("/etc/fstab", []byte(edited), a)
		}
	}
	if err != nil {
		s.fail("settle: fstab: %v", err)
	}
}
