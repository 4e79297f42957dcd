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

// folderNames calls f with the folder of each machine and what is in it, and odd, unless
// it is nil, with what inside says of others.
func (s *Store) folderNames(f func(top folder, machine string, d folder, names []string) error, odd func(machine string, why error)) error {
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
		d, names, err := inside(top, machine)
		if err != nil {
			if odd != nil {
				odd(machine, err)
			}
			continue
		}
		err = f(top, machine, d, names)
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// errName is what inside says of a name that can be no part of a key.
var errName = errors.New("its name is none that the store gives")

// inside opens a folder, and says what is in it; errName is an error of it.
func inside(above folder, name string) (folder, []string, error) {
	if !part.MatchString(name) {
		return folder{}, nil, errName
	}
	d, err := above.sub(name)
	if err != nil {
		return d, nil, err
	}
	names, err := d.Readdirnames(-1)
	if err == nil {
		_, err = d.Seek(0, 0) // for who reads it again
	}
	if err != nil {
		d.Close()
		return folder{}, nil, err
	}
	return d, names, nil
}

// noteShut notes a folder above those of overlays that cannot be opened, which may be any
// number of them. It is told as a stray is.
func (s *Store) noteShut(key Key, why error, l *strays) {
	if errors.Is(why, fs.ErrNotExist) {
		return
	}
	l.add(fmt.Sprintf("%s (%v)", s.Path(key), reason(why)))
	if why != errName {
		s.shut = append(s.shut, Record{Key: key, Unreadable: errShut(why)})
	}
}

func errShut(why error) error { return fmt.Errorf("its folder cannot be opened: %w", reason(why)) }

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
			key := Key{Machine: machine, Instance: instance}
			boot, exports, err := inside(d, instance)
			if err != nil {
				s.noteShut(key, err, &l)
				continue
			}
			err = s.scanBoot(key, boot, exports, &l)
			boot.Close()
			if err != nil {
				return err
			}
		}
		return nil
	}, func(machine string, why error) { s.noteShut(Key{Machine: machine}, why, &l) })
}

// scanBoot is scan of one folder of overlays.
func (s *Store) scanBoot(key Key, boot folder, exports []string, l *strays) error {
	for _, name := range exports {
		key.Export = name
		d, files, err := inside(boot, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == errName:
			l.add(fmt.Sprintf("%s (%v)", s.Path(key), err))
			continue
		case err != nil:
			s.cannotUse(Record{Key: key, Unreadable: errShut(err)}, true)
			continue
		}
		err = s.scanOverlay(key, boot, d, files, l)
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// cannotUse has an overlay be there that nobody can use.
func (s *Store) cannotUse(r Record, shut bool) {
	s.log.Error("an overlay cannot be used", "path", s.Path(r.Key), "err", r.Unreadable)
	s.slots[r.Key] = &slot{found: true, rec: r, shut: shut}
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
	if err != nil {
		s.cannotUse(Record{Key: key, Unreadable: err}, false)
		return nil
	}
	if rec.Key != key {
		err = fmt.Errorf("its record is that of %s: it was copied or moved here", rec.Key)
		s.cannotUse(Record{Key: key, Base: rec.Base, Unreadable: err, CopyOf: rec.Key}, false)
		return nil
	}
	s.slots[key] = &slot{found: true, rec: rec, version: version}
	return nil
}
