package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// tears gives a journal with its last entry cut off at each byte, and with a bit of
// each of its bytes, or each bit, turned over.
func tears(journal []byte, all bool) (list [][]byte) {
	last := bytes.LastIndex(journal, []byte("dlj1")) // a frame begins with it
	for n := last; n < len(journal); n++ {
		list = append(list, journal[:n])
	}
	for at := last; at < len(journal); at++ {
		for bit := range 8 {
			if all || bit == at%8 {
				b := bytes.Clone(journal)
				b[at] ^= 1 << bit
				list = append(list, b)
			}
		}
	}
	return list
}

// tornJournals opens the state directory that an attempt was cut off in with all
// that may have become of the journal's last entry, and has a daemon start on some
// of it. It gives how often that was, and what was wrong.
func (l *crashLane) tornJournals(tale crashTale, all bool) (n int, wrong []error) {
	path := filepath.Join(l.state(), "journal")
	l.restore("torn")
	journal, err := os.ReadFile(path)
	if err != nil {
		return 0, []error{err}
	}
	list := tears(journal, all)
	for i, b := range list {
		n++
		if err := l.opens(path, b, tale); err != nil {
			wrong = append(wrong, fmt.Errorf("journal %d of %d: %w", i, len(list), err))
		}
	}
	for i := 0; i < len(list); i += len(list)/4 + 1 {
		l.restore("torn")
		err := os.WriteFile(path, list[i], 0o640)
		if err == nil {
			n++
			err = l.followed(tale)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("a daemon on journal %d of %d: %w", i, len(list), err))
		}
	}
	return n, wrong
}

// opens opens the state directory with that journal.
func (l *crashLane) opens(path string, journal []byte, tale crashTale) error {
	if err := os.WriteFile(path, journal, 0o640); err != nil {
		return err
	}
	s, err := store.Open(l.state(), store.Options{})
	if err != nil {
		return err
	}
	damage := s.Damage()
	if err := s.Close(); err != nil || damage != nil {
		return fmt.Errorf("%w, damage: %w", err, damage)
	}
	recorded, err := recordedState(l.state())
	if err == nil && recorded != tale.recorded {
		err = fmt.Errorf("something else is recorded (-want +got):\n%s", brief(tale.recorded, recorded))
	}
	return err
}

// followed starts a daemon, lets it look at the repo, and ends it.
func (l *crashLane) followed(tale crashTale) error {
	l.gate.shut()
	d := l.start("")
	defer func() {
		d.cmd.Process.Kill() // if it is still there
		<-d.exited
	}()
	if err := d.passes("engine.start.end", 1); err != nil {
		return err
	}
	answers, err := d.explainAll()
	if err == nil && answers != tale.answers {
		err = fmt.Errorf("it answers otherwise (-want +got):\n%s", brief(tale.answers, answers))
	}
	if err != nil {
		return err
	}
	before := l.points.count("engine.retire.end")
	l.gate.open()
	if err := d.followed(before); err != nil {
		return err
	}
	if answers, err = d.explainAll(); err == nil && answers != tale.answersThen {
		err = fmt.Errorf("it answers otherwise in the end (-want +got):\n%s", brief(tale.answersThen, answers))
	}
	if err != nil {
		return err
	}
	if err := d.end(); err != nil {
		return err
	}
	whole, err := wholeState(l.state())
	if err == nil && whole != tale.then {
		err = fmt.Errorf("the state directory is not what it would be (-want +got):\n%s", diffLines(tale.then, whole))
	}
	return err
}
