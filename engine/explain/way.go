package explain

import (
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// kind is one kind of client that Check plays.
type kind struct {
	arch  uint16
	class string
}

func (k kind) String() string {
	name := schema.ClientArchOf(k.arch).Name
	if k.class != "" {
		return k.class + " on " + name
	}
	return name + " firmware"
}

// route is a set of kinds whose boots went alike: the same files, or no file at all.
type route struct {
	kinds []kind
	told  bool // they are told a boot file, or something is wrong before that
}

// firmware reports whether some of the kinds are firmware.
func (r route) firmware() bool {
	return slices.ContainsFunc(r.kinds, func(k kind) bool { return k.class == "" })
}

// way is how some machines boot from a subnet.
type way struct {
	boot   []schema.Addr
	kinds  int // of client that were walked
	routes []route
}

// wayOf gives the way of a machine, and walks it when it is the first one there.
func (c *check) wayOf(m Machine) way {
	settled := c.want.WayOf(m.Host, m.Subnet)
	var key strings.Builder
	part := func(a schema.Addr) {
		key.WriteString(a.String())
		key.WriteByte(0)
	}
	part(m.Subnet.Addr)
	part(settled.Entry)
	if settled.Group != nil {
		part(settled.Group.Addr)
	}
	for _, b := range settled.Boot {
		part(b)
	}
	w, known := c.ways[key.String()]
	if known {
		return w
	}
	w.boot = settled.Boot
	if !m.Foreign || len(w.boot) > 0 {
		c.explore(&w, c.as(m, w), kindsOf(settled.Boot, m.Subnet))
	}
	c.ways[key.String()] = w
	return w
}

// half gives the one of BIOS and UEFI x86-64 that is told no file although the other is,
// by boot loaders among which iPXE is; nil when that is not so.
func (w way) half(s *schema.Subnet) *kind {
	bios, uefi := kind{arch: 0}, kind{arch: 7}
	if !slices.ContainsFunc(w.boot, func(b schema.Addr) bool { return b.Type == schema.IPXE }) || len(s.BootFileName) > 0 {
		return nil
	}
	told := map[kind]bool{}
	for _, r := range w.routes {
		for _, k := range r.kinds {
			told[k] = r.told
		}
	}
	switch {
	case told[bios] == told[uefi]:
		return nil
	case told[bios]:
		return &uefi
	}
	return &bios
}

// kindsOf lists the kinds of client that a machine with these boot loaders is checked
// as: BIOS, and UEFI by both protocols, whatever the loaders are; everything that one
// of them is made for, and that the subnet names a file for; and where an iPXE may
// run, an iPXE in the ROM.
func kindsOf(boot []schema.Addr, s *schema.Subnet) []kind {
	platforms := map[schema.Platform]bool{schema.PlatformBIOS: true, schema.PlatformX64: true}
	rom := false
	for _, b := range boot {
		rom = rom || b.Type == schema.IPXE
		for _, p := range schema.LoaderPlatforms(b.Type) {
			platforms[p] = true
		}
	}
	var list []kind
	for _, a := range schema.ClientArchs() {
		if platforms[a.Platform] || s.BootFileName[a.Number] != "" {
			list = append(list, kind{arch: a.Number})
		}
	}
	if rom {
		list = append(list, kind{0, ipxeClass}, kind{7, ipxeClass})
	}
	return list
}

// explore finds out which of the kinds go alike.
func (c *check) explore(w *way, one *client, kinds []kind) {
	w.kinds = len(kinds)
	byHow := map[string]int{}
	for _, k := range kinds {
		fails, told, steps := one.boot(k)
		how := howOf(fails, told, steps)
		n, known := byHow[how]
		if !known {
			n = len(w.routes)
			byHow[how] = n
			w.routes = append(w.routes, route{told: told})
		}
		w.routes[n].kinds = append(w.routes[n].kinds, k)
	}
}

// client is a machine that asks. What it asks twice is answered once.
type client struct {
	Machine
	way     way
	ask     func(provider.Query) []provider.Answer
	asked   []provider.Query
	answers [][]provider.Answer
}

func (c *check) as(m Machine, w way) *client {
	if !m.Query.Address.IsValid() && len(m.Subnet.Pools) > 0 {
		// Whether a pool is full is the moment's affair: no reason to refuse a
		// commit, and least of all a rollback.
		m.Query.Address = m.Subnet.Pools[0].From
	}
	return &client{Machine: m, way: w, ask: c.ask}
}

func (m *client) once(q provider.Query) []provider.Answer {
	if i := slices.Index(m.asked, q); i >= 0 {
		return m.answers[i]
	}
	list := m.ask(q)
	m.asked, m.answers = append(m.asked, q), append(m.answers, list)
	return list
}

// boot walks the machine as one kind of client. told is false when it is told no boot
// file at the beginning; steps are what it got, as far as that is ours to know.
func (m *client) boot(k kind) (fails []string, told bool, steps []provider.Answer) {
	q := m.Query
	q.Arch, q.Class = k.arch, k.class
	var later []string
	if m.Foreign {
		files := Foreign(m.once, q)
		if len(files) == 0 {
			a, _ := first(m.once(m.foreignQuery(q)), provider.AnswerLoader)
			return []string{a.Fail + where(a)}, false, nil
		}
		q.File, later = files[0], files[1:]
	}
	res := Walk(m.once, q, later...)
	if len(m.way.boot) == 0 && len(res.Fails) == 0 {
		return nil, false, nil
	}
	if len(res.Steps) > 0 && res.Steps[0].Kind == provider.AnswerDHCP {
		switch a := res.Steps[0]; {
		case a.Name != "" && k.class == "" && a.Name == m.Subnet.BootFileName[k.arch]:
			return nil, true, nil // what that loads is not ours to know
		case a.Name == "" && a.Fields != nil && len(res.Steps) == 1:
			if len(res.Fails) == 0 {
				res.Fails = append(res.Fails, "it gets an address and no boot file")
			}
			if k.class == "" {
				return res.Fails, false, nil
			}
		}
	}
	if len(res.Fails) == 0 && res.KernelLine == "" {
		res.Fails = append(res.Fails, "it is told a boot file, and gets no kernel")
	}
	return res.Fails, true, res.Steps
}

// howOf names all that a client fetched, and what failed. Those that are told no file
// are alike, whatever the reason.
func howOf(fails []string, told bool, steps []provider.Answer) string {
	if !told {
		return "no file"
	}
	var b strings.Builder
	for _, a := range steps {
		b.WriteString(string(a.Kind) + " " + a.Protocol + " " + a.Name + "\n")
	}
	return b.String() + strings.Join(fails, "\n")
}

func (m *client) foreignQuery(q provider.Query) provider.Query {
	q.Vendor = Vendor(q.Arch)
	if q.Class == ipxeClass {
		q.Arch, q.Vendor = ipxeArch(q.Arch), vendorPXE
	}
	return q
}

// tally collects why kinds of client fail.
type tally struct {
	whys  []string
	kinds map[string][]kind
}

func (t *tally) add(fails []string, kinds []kind) {
	if t.kinds == nil {
		t.kinds = map[string][]kind{}
	}
	for _, f := range fails {
		if t.kinds[f] == nil {
			t.whys = append(t.whys, f)
		}
		t.kinds[f] = append(t.kinds[f], kinds...)
	}
}

// lines gives a line for each reason. all is how many kinds were walked.
func (t *tally) lines(all int) []string {
	var lines []string
	for _, why := range t.whys {
		var names []string
		for _, k := range t.kinds[why] {
			names = append(names, k.String())
		}
		who := strings.Join(names, ", ")
		if len(names) == all {
			who = "every kind of client"
		}
		lines = append(lines, who+": "+why)
	}
	return lines
}
