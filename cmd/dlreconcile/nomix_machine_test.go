package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// mixMachine boots again and again, each step when it is told to. What it saw of
// one boot must all be of one commit, and of none that was older than the newest
// when the boot began.
type mixMachine struct {
	mixWire
	name   string
	ctx    context.Context
	newest *atomic.Int64 // the commit that is served
	starts *atomic.Int64 // of the daemon
	boots  func(*mixBoot) error
	chance *rand.Rand

	turn chan bool     // a step may be taken; closed: no more
	rest chan struct{} // it was taken

	// What follows may be nil. pace stands for a turn after the first. use is called
	// with the root of a boot attached, before and after the machine may have reported
	// that it is up. fetched is told of each file that came. imageOf says which image
	// a commit uses.
	pace    func() error
	use     func(b *mixBoot, before bool) error
	fetched func(name string, content []byte)
	imageOf func(commit int) int

	// oldest is the commit that a boot may be of that can only be taken for the one
	// before, which was given up: it had not got far enough to tell.
	oldest int
	root   *walker // of the last boot
	rootOf int64   // start of the daemon that it was attached in
	done   int     // boots that reached userland
	wrong  []string
}

var (
	errReset = errors.New("the machine was reset")
	errOver  = errors.New("the test is over")
)

// live takes one boot after the other.
func (m *mixMachine) live() {
	defer func() {
		if m.root != nil {
			m.root.close()
		}
		close(m.rest)
	}()
	if _, more := <-m.turn; !more {
		return
	}
	for n := 1; ; n++ {
		b := &mixBoot{mixMachine: m, number: n, lowest: int(m.newest.Load())}
		if m.oldest > 0 {
			b.lowest = min(b.lowest, m.oldest)
		}
		m.oldest = b.lowest // until the boot is told from the next one
		err := m.boots(b)
		m.wrong = append(m.wrong, b.verdict()...)
		switch {
		case err == nil:
			m.done++
		case errors.Is(err, errOver):
			return
		case !errors.Is(err, errReset):
			m.wrong = append(m.wrong, fmt.Sprintf("%s, boot %d: %v; it saw %s", m.name, n, err, b.sightings()))
			if errors.Is(b.pause(), errOver) {
				return
			}
		}
	}
}

// pause waits until the next step may be taken.
func (m *mixMachine) pause() error {
	if m.pace != nil {
		return m.pace()
	}
	m.rest <- struct{}{}
	if _, more := <-m.turn; !more {
		return errOver
	}
	return nil
}

// mixBoot is one boot of a machine.
type mixBoot struct {
	*mixMachine
	number int
	lowest int // commit
	seen   []sighting
	got    bool
}

// sighting is something that a machine was given, and what it says it is of.
type sighting struct {
	what                   string
	commits, images, trees []string
}

func (s sighting) String() string {
	list := []string{s.what + ":"}
	for _, n := range s.commits {
		list = append(list, "commit "+n)
	}
	for _, k := range s.images {
		list = append(list, "image "+k)
	}
	for _, id := range s.trees {
		list = append(list, "tree "+id[:5])
	}
	return strings.Join(list, " ")
}

// step waits for the next turn. Now and then the machine is reset meanwhile.
func (b *mixBoot) step() error {
	for {
		if err := b.pause(); err != nil {
			return err
		}
		switch b.chance.IntN(24) {
		case 0:
			return errReset
		case 1, 2, 3, 4: // it is slow
		default:
			return nil
		}
	}
}

// distinct says that the boot got so far that the next one cannot be taken for it.
func (b *mixBoot) distinct() { b.oldest = 0 }

// delivered says the same of a file that has just come. The daemon learns a moment
// later that it was got whole, so this counts with the next file.
func (b *mixBoot) delivered() { b.got = true }

// saw notes what the machine was given.
func (b *mixBoot) saw(what string, content []byte) {
	b.seen = append(b.seen, sighting{what, marksIn(commitMark, content), marksIn(imageMark, content), marksIn(treeMark, content)})
}

func (b *mixBoot) sightings() string {
	var list []string
	for _, s := range b.seen {
		list = append(list, s.String())
	}
	return strings.Join(list, ", ")
}

// verdict says what is wrong with what the machine saw.
func (b *mixBoot) verdict() []string {
	commits, images, trees := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, s := range b.seen {
		for _, n := range s.commits {
			commits[n] = true
		}
		for _, k := range s.images {
			images[k] = true
		}
		for _, id := range s.trees {
			trees[id] = true
		}
	}
	commit := -1
	for s := range commits {
		n, err := strconv.Atoi(s)
		if err != nil {
			return []string{fmt.Sprintf("%s, boot %d: %v", b.name, b.number, err)}
		}
		commit = n
		image := n % mixImages
		if b.imageOf != nil {
			image = b.imageOf(n)
		}
		images[strconv.Itoa(image)] = true
	}
	switch {
	case len(commits) > 1, len(images) > 1, len(trees) > 1:
		return []string{fmt.Sprintf("%s, boot %d: commits are mixed in one boot: %s", b.name, b.number, b.sightings())}
	case commit >= 0 && commit < b.lowest:
		return []string{fmt.Sprintf("%s, boot %d: it is of commit %d, and began when %d was served: %s", b.name, b.number, commit, b.lowest, b.sightings())}
	}
	return nil
}

// fetch takes a step and gets a file.
func (b *mixBoot) fetch(what, name string) ([]byte, error) {
	if err := b.step(); err != nil {
		return nil, err
	}
	content, err := b.get(b.ctx, name)
	if err != nil {
		return nil, err
	}
	if b.fetched != nil {
		b.fetched(name, content)
	}
	b.saw(what, append([]byte(name+"\n"), content...))
	if b.got {
		b.distinct()
	}
	return content, nil
}

var (
	nbdrootWord = regexp.MustCompile(`\bnbdroot=([0-9.]+),([^,\s]+),nbd0\b`)
	ipxeKernel  = regexp.MustCompile(`(?m)^kernel (\S+) (.*?) \|\|`)
	ipxeInitrd  = regexp.MustCompile(`(?m)^initrd (?:--name \S+ )?(\S+) \|\|`)
	ipxeChain   = regexp.MustCompile(`(?m)^chain (?:--\S+ )*(\S+)`)
)

// system is what a machine does from its kernel on: everything is there, so the
// initramfs asks DHCP (where that is ours), attaches the root and starts it.
func (b *mixBoot) system(line string, dhcp bool, undigested bool) error {
	if dhcp {
		if _, err := b.dhcp(askSystem); err != nil {
			return err
		}
	}
	if err := b.step(); err != nil {
		return err
	}
	m := nbdrootWord.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("no nbdroot= in %q", line)
	}
	export := fmt.Sprintf("%s+%s-%d", m[2], b.name, b.number)
	if undigested {
		// What the kernel line said may be written by hand as well, and a stock
		// nbd-client does not say which boot it is of.
		export, _, _ = strings.Cut(m[2], "@")
	}
	before := b.root
	// Else it is found out when the new one is there. From another address nobody gets
	// that far while the server believes that the machine is up.
	if before != nil && (b.chance.IntN(2) == 0 || before.addr != b.addr) {
		before.close()
	}
	root, err := b.attach(b.ctx, export)
	for until := time.Now().Add(walkerTimeout); err != nil && before != nil && before.addr != b.addr && time.Now().Before(until); {
		<-time.After(300 * time.Millisecond) // as nbdroot does; the server has not seen yet that the old one is over
		root, err = b.attach(b.ctx, export)
	}
	if err != nil {
		return err
	}
	if before != nil {
		before.close()
	}
	b.root, b.rootOf = root, b.starts.Load()
	b.distinct()
	b.saw("root", root.first)
	if err := b.used(true); err != nil {
		return err
	}
	if b.chance.IntN(3) > 0 {
		if err := b.post(b.ctx, "userland"); err != nil {
			return err
		}
	}
	if err := b.used(false); err != nil {
		return err
	}
	for range b.chance.IntN(4) {
		if err := b.step(); err != nil {
			return err
		}
		if err := b.unchanged(); err != nil {
			return err
		}
	}
	return nil
}

func (b *mixBoot) used(before bool) error {
	if b.use == nil {
		return nil
	}
	return b.use(b, before)
}

// unchanged fails unless the root is what it was. A connection that a restart of the
// daemon cut is made anew, as nbdroot does it.
func (b *mixBoot) unchanged() error {
	err := b.root.same()
	if err == nil || b.starts.Load() == b.rootOf {
		return err
	}
	b.rootOf = b.starts.Load()
	again, err := b.attach(b.ctx, b.root.export)
	if err != nil {
		return err
	}
	first := b.root.first
	b.root.close()
	b.root = again
	if !slices.Equal(first, again.first) {
		return errors.New("the root is another one after the connection was made anew")
	}
	return nil
}

// initrds gets kernel and initrds. base is what their names are relative to.
func (b *mixBoot) initrds(base, kernel string, initrds []string) error {
	if _, err := b.fetch("kernel", base+kernel); err != nil {
		return err
	}
	b.delivered()
	for _, name := range initrds {
		if _, err := b.fetch("initrd", base+name); err != nil {
			return err
		}
	}
	return nil
}
