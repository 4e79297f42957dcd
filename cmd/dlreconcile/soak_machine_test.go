package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	soakMachines = 50
	soakCopies   = (soakMachines + 14) / 15 // of each way to boot
	// soakBeat is how often a machine reads from its root.
	soakBeat = 100 * time.Millisecond
	// soakReset is the least that firmware takes before it asks for anything, and so how
	// late the daemon may learn that what was loaded before the reset was got whole.
	soakReset = time.Second
	// nbdReadOnly is the transmission flag NBD_FLAG_READ_ONLY.
	nbdReadOnly = 1 << 1
)

// soakLoad is everything that asks the daemon for something, and what it counts.
type soakLoad struct {
	ctx    context.Context
	over   chan struct{} // closed: every unit of work that has begun is ended, and none begins
	newest atomic.Int64
	starts atomic.Int64
	roots  [soakImages][]byte // what the artifacts hold
	ledger soakLedger

	boots, reads, bytes, writes, again, files atomic.Int64

	mu     sync.Mutex // guards what follows
	images []int      // by commit
	wrong  []string
}

func (l *soakLoad) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// imageOf says which image a commit uses.
func (l *soakLoad) imageOf(commit int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.images[commit]
}

// more waits for the next beat, and is false when the load is over.
func (l *soakLoad) more(beat *time.Ticker) bool {
	select {
	case <-l.over:
		return false
	default:
	}
	select {
	case <-l.over:
		return false
	case <-beat.C:
		return true
	}
}

// soakMachine is a machine that uses its root from boot to boot.
type soakMachine struct {
	*mixMachine
	load  *soakLoad
	names []string // of files that this boot was offered
	disk  soakDisk
}

func (l *soakLoad) machines() []*soakMachine {
	ways := mixWays()
	names := slices.Sorted(maps.Keys(ways))
	var list []*soakMachine
	for i := range soakMachines {
		way := names[i%len(names)]
		m := &soakMachine{load: l}
		m.mixMachine = newMixMachine(l.ctx, fmt.Sprintf("%s-%d", way, i/len(names)), i, func(b *mixBoot) error {
			m.names = nil
			select {
			case <-l.over:
				return errOver
			case <-time.After(soakReset):
				return ways[way](b)
			}
		})
		m.newest, m.starts, m.imageOf = &l.newest, &l.starts, l.imageOf
		m.pace = func() error {
			select {
			case <-l.over:
				return errOver
			default:
				return nil
			}
		}
		m.use, m.fetched = m.inhabit, m.got
		m.turn <- true
		list = append(list, m)
	}
	return list
}

// got notes a file.
func (m *soakMachine) got(name string, content []byte) {
	m.load.files.Add(1)
	if path, ok := treePath(name); ok {
		m.names = append(m.names, path)
		m.load.ledger.saw(path, content)
	}
}

// treePath gives the name of a file in a boot tree, by whatever name it was asked for.
func treePath(name string) (string, bool) {
	if i := strings.Index(name, "b/"); i >= 0 && treeMark.MatchString(name) {
		return name[i:], true
	}
	return "", false
}

// inhabit is a part of the machine's life with its root: it reads and writes, holds all
// of it against what it must be, loads again what it was offered while its boot is
// open, and now and then makes its connection anew.
func (m *soakMachine) inhabit(b *mixBoot, before bool) error {
	l := m.load
	if before {
		l.boots.Add(1)
		mark := marksIn(imageMark, b.root.first)
		if len(mark) != 1 || len(mark[0]) != 1 {
			return fmt.Errorf("the root %s says that it is of %q", b.root.export, mark)
		}
		k := int(mark[0][0] - '0')
		m.disk = soakDisk{want: l.roots[k], written: map[uint64][]byte{}}
	}
	beat := time.NewTicker(soakBeat)
	defer beat.Stop()
	for range 5 + b.chance.IntN(50) {
		if !l.more(beat) {
			return errOver
		}
		if err := m.act(b, before); err != nil {
			return err
		}
	}
	return nil
}

func (m *soakMachine) act(b *mixBoot, before bool) error {
	l, d := m.load, &m.disk
	switch what := b.chance.IntN(40); {
	case what == 0:
		l.again.Add(1)
		return m.reattach(b)
	case what < 4 && before && len(m.names) > 0:
		name := m.names[b.chance.IntN(len(m.names))]
		ask := name
		if what == 1 {
			ask = "http://" + mixServer + "/" + name
		}
		content, err := b.get(b.ctx, ask)
		if err != nil {
			return fmt.Errorf("again: %w", err)
		}
		l.files.Add(1)
		l.ledger.saw(name, content)
		return nil
	case what < 8 && b.root.flags&nbdReadOnly == 0 && len(d.written) < 64:
		block := make([]byte, 4096)
		for i := range block {
			block[i] = byte(b.chance.Uint32())
		}
		first := uint64(len(b.root.first) / len(block))
		at := (first + b.chance.Uint64N(mixSize/uint64(len(block))-first)) * uint64(len(block))
		if err := nbdWrite(b.root, at, block); err != nil {
			return err
		}
		d.written[at] = block
		l.writes.Add(1)
		return nil
	default:
		n := 512 << b.chance.IntN(9)
		at := b.chance.Uint64N(uint64(mixSize - n))
		l.reads.Add(1)
		l.bytes.Add(int64(n))
		return d.check(b.root, at, n)
	}
}

// reattach is what nbdroot does when its connection dies: the same boot goes on with
// the same root.
func (m *soakMachine) reattach(b *mixBoot) error {
	old := b.root
	old.close()
	root, err := b.attach(b.ctx, old.export)
	if err != nil {
		return fmt.Errorf("once more: %w", err)
	}
	b.root = root
	if root.flags != old.flags {
		return fmt.Errorf("%s has flags %#x, and had %#x before it was attached once more", old.export, root.flags, old.flags)
	}
	for at, block := range m.disk.written {
		if err := m.disk.check(root, at, len(block)); err != nil {
			return fmt.Errorf("once more: %w", err)
		}
	}
	return nil
}

// soakDisk is what a root must hold.
type soakDisk struct {
	want    []byte
	written map[uint64][]byte // whole blocks, by offset
}

// check reads n bytes and fails unless they are what they must be.
func (d *soakDisk) check(root *walker, at uint64, n int) error {
	got, err := root.read(at, uint32(n))
	if err != nil {
		return fmt.Errorf("%s: %d bytes at %d: %w", root.export, n, at, err)
	}
	want := bytes.Clone(d.want[at:][:n])
	for to, block := range d.written {
		if end := to + uint64(len(block)); to < at+uint64(n) && end > at {
			from := max(to, at)
			copy(want[from-at:], block[from-to:])
		}
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: %d bytes at %d are not what was written there", root.export, n, at)
	}
	return nil
}

// nbdWrite writes into a root.
func nbdWrite(w *walker, at uint64, b []byte) error {
	if err := w.conn.SetDeadline(time.Now().Add(walkerTimeout)); err != nil {
		return err
	}
	var out bytes.Buffer
	req := protocol.TransmissionRequestHeader{
		RequestMagic: protocol.TRANSMISSION_MAGIC_REQUEST, Type: protocol.TRANSMISSION_TYPE_REQUEST_WRITE,
		Handle: 2, Offset: at, Length: uint32(len(b)),
	}
	if err := binary.Write(&out, binary.BigEndian, req); err != nil {
		return err
	}
	out.Write(b)
	if _, err := w.conn.Write(out.Bytes()); err != nil {
		return err
	}
	var reply protocol.TransmissionReplyHeader
	err := binary.Read(w.conn, binary.BigEndian, &reply)
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s: the server ended the connection at a write", w.export)
	case err != nil:
		return err
	case reply.ReplyMagic != protocol.TRANSMISSION_MAGIC_REPLY || reply.Error != 0:
		return fmt.Errorf("%s: write: error %d", w.export, reply.Error)
	}
	return nil
}
