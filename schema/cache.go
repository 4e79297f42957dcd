package schema

import (
	"crypto/sha256"
	"sync/atomic"

	"github.com/hashicorp/hcl/v2"
)

// Cache lets one Load take over from another what has not changed: where a commit
// edits one host of ten thousand, the others are not evaluated again, and what was
// decoded of them is in memory once. What Load gives is the same with a Cache and
// without. It holds values, and nothing of a syntax tree.
//
// The zero Cache is empty and ready for use. It may be used by several Loads at a time.
type Cache struct {
	last atomic.Pointer[decoded]
}

// decoded is what the Load before has decoded. It is not written to once it is in a
// Cache.
type decoded struct {
	blocks map[Addr]*decodedBlock // without key
	files  map[string]*knownFile
}

// decodedBlock is a host block and what became of it.
type decodedBlock struct {
	surroundings [sha256.Size]byte // see loader.surroundings
	instances    map[string]*decodedHost
}

// decodedHost is one instance of a host block.
type decodedHost struct {
	each     [sha256.Size]byte // of each.value
	host     *Host
	resource Resource
	files    []File // of the tree, that were read for it
	nulls    []string
	steps    int64 // what it cost, so that limits are reached with a Cache where they are without
	text     int64
}

// recollection is what a loader knows of the Load before, and keeps for the next.
type recollection struct {
	cache  *Cache   // nil: nothing is kept
	before *decoded // empty when nothing was kept
	now    *decoded
	block  *block // the last that was asked for, and its surroundings
	known  bool
	around [sha256.Size]byte
	took   map[*Host]bool  // from before
	value  []byte          // the last that was digested
	simple map[string]bool // files of which the next Load may know
	words  map[string]int  // of all files of configuration; see affordWords
}

func newRecollection(c *Cache) recollection {
	r := recollection{cache: c, before: &decoded{}, now: &decoded{blocks: map[Addr]*decodedBlock{}}, took: map[*Host]bool{}, simple: map[string]bool{}, words: map[string]int{}}
	if c != nil {
		if last := c.last.Load(); last != nil {
			r.before = last
		}
	}
	return r
}

// keep makes what was decoded known to later Loads. It is called after one without
// mistakes.
func (r *recollection) keep() {
	if r.cache != nil {
		r.cache.last.Store(r.now)
	}
}

// recall gives an instance of a host block as the Load before has decoded it, when
// nothing that it depends on has changed; else it decodes it, and remembers it.
func (l *loader) recall(b *block, m *made, ctx *hcl.EvalContext, decode func()) {
	around, ok := l.surroundings(b)
	if !ok {
		l.read(b)
		decode()
		return
	}
	var each [sha256.Size]byte
	if b.forEach != nil {
		l.kept.value = appendValue(l.kept.value[:0], ctx.Variables["each"])
		each = sha256.Sum256(l.kept.value)
	}
	if old := l.kept.before.blocks[b.addr]; old != nil && old.surroundings == around {
		if d := old.instances[m.addr.Key]; d != nil && d.each == each && l.meter.has(d.steps, d.text) && l.unread(d.files) {
			l.meter.steps += d.steps
			l.meter.text += d.text
			m.resource, m.nulls = &d.resource, d.nulls
			l.out.Hosts = append(l.out.Hosts, d.host)
			l.kept.took[d.host] = true
			l.remember(b, around, m.addr.Key, d)
			return
		}
	}
	l.read(b)
	steps, text, mistakes, hosts := l.meter.steps, l.meter.text, len(l.diags), len(l.out.Hosts)
	l.tree.noted = map[string]bool{}
	decode()
	reads := l.tree.noted
	l.tree.noted = nil
	if m.failed || l.stopped || len(l.diags) > mistakes || len(l.out.Hosts) != hosts+1 {
		return
	}
	r := m.summary()
	m.resource = &r
	d := &decodedHost{each: each, host: l.out.Hosts[hosts], resource: r, nulls: m.nulls, steps: l.meter.steps - steps, text: l.meter.text - text}
	for name := range reads {
		f := l.tree.files[name]
		if f == nil {
			return // it was not there, and that did not matter
		}
		d.files = append(d.files, *f)
	}
	l.remember(b, around, m.addr.Key, d)
}

func (l *loader) remember(b *block, around [sha256.Size]byte, key string, d *decodedHost) {
	now := l.kept.now.blocks[b.addr]
	if now == nil {
		now = &decodedBlock{surroundings: around, instances: map[string]*decodedHost{}}
		l.kept.now.blocks[b.addr] = now
	}
	now.instances[key] = d
}

// unread reports whether files are what they were. They count as used by this Load.
func (l *loader) unread(files []File) bool {
	for _, f := range files {
		var now File
		if f.Config {
			if _, err := l.tree.text(f.Path, maxDataBytes); err != nil {
				return false
			}
			now = *l.tree.files[f.Path]
		} else {
			var err error
			if now, err = l.tree.digest(f.Path); err != nil {
				return false
			}
		}
		if now.Digest != f.Digest {
			return false
		}
	}
	return true
}
