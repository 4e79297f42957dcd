package cow

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// strays are what stands in the store and is not of it. It is left alone, and told
// together.
type strays struct {
	paths []string
	all   int
}

// mostStrays is how many are told by name.
const mostStrays = 8

func (l *strays) add(path string) {
	if l.all++; len(l.paths) < mostStrays {
		l.paths = append(l.paths, path)
	}
}

// tell logs what is there, if anything is.
func (s *Store) tell(l *strays) {
	if l.all > 0 {
		s.log.Warn("what is no overlay is in the folder of overlays, and left alone", "dir", s.dir, "paths", l.paths, "all", l.all)
	}
}

// prune removes empty folders, of keys that are gone. It is done while nobody makes an
// overlay.
func (s *Store) prune() error {
	return s.folderNames(func(top folder, machine string, d folder, instances []string) error {
		for _, name := range instances {
			if part.MatchString(name) {
				if _, err := d.rmdir(name); err != nil {
					return err
				}
			}
		}
		_, err := top.rmdir(machine)
		return err
	}, nil)
}

// folderNames calls f with the folder of each machine and what is in it. Other things go
// to l, unless it is nil.
func (s *Store) folderNames(f func(top folder, machine string, d folder, names []string) error, l *strays) error {
	top, err := openFolder(s.dir)
	if err != nil {
		return err
	}
	defer top.Close()
	machines, err := top.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, machine := range machines {
		if machine == "lost+found" { // the file system's, when it is one of its own
			continue
		}
		d, names, ok := inside(top, machine, l)
		if !ok {
			continue
		}
		err := f(top, machine, d, names)
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// inside opens a folder whose name may be a part of a key, and says what is in it. What
// cannot be one goes to l.
func inside(above folder, name string, l *strays) (folder, []string, bool) {
	var names []string
	err := errors.New("its name is none that the store gives")
	d := folder{}
	if part.MatchString(name) {
		if d, err = above.sub(name); err == nil {
			if names, err = d.Readdirnames(-1); err == nil {
				_, err = d.Seek(0, 0) // for who reads it again
			}
			if err == nil {
				return d, names, true
			}
			d.Close()
		}
	}
	if l != nil && !errors.Is(err, fs.ErrNotExist) {
		l.add(fmt.Sprintf("%s (%v)", filepath.Join(above.Name(), name), reason(err)))
	}
	return folder{}, nil, false
}

// reason is an error without the path that it begins with.
func reason(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// scan reads every record, and clears away what never became an overlay.
func (s *Store) scan() error {
	var l strays
	defer s.tell(&l)
	return s.folderNames(func(_ folder, machine string, d folder, instances []string) error {
		for _, instance := range instances {
			boot, exports, ok := inside(d, instance, &l)
			if !ok {
				continue
			}
			err := s.scanBoot(Key{Machine: machine, Instance: instance}, boot, exports, &l)
			boot.Close()
			if err != nil {
				return err
			}
		}
		return nil
	}, &l)
}

// scanBoot is scan of one folder of overlays.
func (s *Store) scanBoot(key Key, boot folder, exports []string, l *strays) error {
	for _, name := range exports {
		d, files, ok := inside(boot, name, l)
		if !ok {
			continue
		}
		key.Export = name
		err := s.scanOverlay(key, boot, d, files, l)
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) scanOverlay(key Key, boot, d folder, files []string, l *strays) error {
	for _, name := range files {
		if !isOurs(name) {
			l.add(filepath.Join(d.Name(), name))
		}
	}
	rec, version, err := readRecord(d)
	if errors.Is(err, fs.ErrNotExist) { // it never was
		if _, err = d.empty(); err == nil {
			_, err = boot.rmdir(key.Export)
		}
		if err != nil { // it costs space, and nobody's boot
			l.add(fmt.Sprintf("%s (%v)", d.Name(), reason(err)))
		}
		return nil
	}
	for _, name := range files { // what a killed process did not come to rename
		if pending.MatchString(name) {
			if err := d.unlink(name); err != nil { // it does no harm
				l.add(fmt.Sprintf("%s (%v)", filepath.Join(d.Name(), name), reason(err)))
			}
		}
	}
	if err == nil && rec.Key != key {
		err = fmt.Errorf("its record is that of %s", rec.Key)
	}
	if err != nil {
		s.log.Error("an overlay cannot be used", "overlay", key.String(), "err", err)
		rec = Record{Key: key}
	}
	s.slots[key] = &slot{found: true, rec: rec, version: version, broken: err}
	return nil
}
