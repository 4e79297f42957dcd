package main

import (
	"fmt"
	"math/rand/v2"
)

// soakImages are how many artifacts the site has; both are built before the load.
const soakImages = 2

// soakSite is a site that is edited again and again: equal seeds make equal edits.
// commit and image are those of the marks that machines look for; not every edit
// changes them.
type soakSite struct {
	chance   *rand.Rand
	machines []mixHost // of which the boot loader is set
	reserved []mixHost // of machines whose address moves

	commit, image int
	note          int // an argument of everybody's
	block, blocks int // of the pool
	allow         int
	readOnly      bool
	second        bool // export
	moved         map[int]bool
	extra         map[int]mixHost
	images        []int // by commit
}

func newSoakSite(seed uint64) *soakSite {
	s := &soakSite{
		chance: rand.New(rand.NewPCG(seed, 0)), blocks: 1, moved: map[int]bool{}, extra: map[int]mixHost{},
		images: []int{0},
	}
	for copy := range soakCopies {
		s.machines = append(s.machines, mixHosts(fmt.Sprintf("-%d", copy))...)
		name := fmt.Sprintf("rom-%d", copy)
		s.reserved = append(s.reserved, mixHost{name: name, mac: mixMAC(name).String()})
	}
	return s
}

// soakEdits are the kinds of edits, each of which changes something.
func soakEdits() []func(*soakSite) string {
	return []func(*soakSite) string{
		func(s *soakSite) string { s.mark(s.image); return "title" },
		func(s *soakSite) string { s.mark(1 - s.image); return "image" },
		func(s *soakSite) string { s.note++; return "arguments" },
		func(s *soakSite) string { s.block = (s.block + 1) % 4; return "pool moved" },
		func(s *soakSite) string { s.blocks = 3 - s.blocks; return "pool resized" },
		func(s *soakSite) string { s.allow = (s.allow + 1) % 3; return "export access" },
		func(s *soakSite) string { s.readOnly = !s.readOnly; return "export mode" },
		func(s *soakSite) string { s.second = !s.second; return "export" },
		func(s *soakSite) string {
			i := s.chance.IntN(len(s.reserved))
			s.moved[i] = !s.moved[i]
			return "address"
		},
		(*soakSite).host, (*soakSite).host, (*soakSite).host,
	}
}

// edit changes one to three things, and says what.
func (s *soakSite) edit() []string {
	kinds := soakEdits()
	var list []string
	for _, i := range s.chance.Perm(len(kinds))[:1+s.chance.IntN(3)] {
		list = append(list, kinds[i](s))
	}
	return list
}

func (s *soakSite) mark(image int) {
	s.commit++
	s.image = image
	s.images = append(s.images, image)
}

// host adds, edits or removes a host that no machine is.
func (s *soakSite) host() string {
	const most = 20
	i := s.chance.IntN(most)
	h, ok := s.extra[i]
	switch {
	case !ok:
		s.extra[i] = mixHost{
			name: fmt.Sprintf("extra-%d", i), mac: fmt.Sprintf("52:54:99:00:00:%02x", i),
			address: fmt.Sprintf("127.0.5.%d", i), arg: "soak.edit=0",
		}
		return "host added"
	case s.chance.IntN(3) == 0:
		delete(s.extra, i)
		return "host removed"
	default:
		h.arg = fmt.Sprintf("soak.edit=%d", s.chance.IntN(1<<30))
		s.extra[i] = h
		return "host edited"
	}
}

// files are those that differ from the last commit's; with roots, all.
func (s *soakSite) files(roots bool) (map[string]string, error) {
	files := map[string]string{"site.hcl": s.text()}
	if !roots {
		return files, nil
	}
	for k := range soakImages {
		filler := make([]byte, 256<<10)
		fill := rand.NewChaCha8([32]byte{byte(k)})
		fill.Read(filler)
		root, err := mixRoot(k, filler)
		if err != nil {
			return nil, err
		}
		files[fmt.Sprintf("root-%d.tar", k)] = root
	}
	return files, nil
}

func (s *soakSite) text() string {
	p := mixParts{
		commit: s.commit, image: s.image, args: fmt.Sprintf(`, "soak.note=%d"`, s.note), mode: "copy-on-write",
		hosts: append([]mixHost(nil), s.machines...),
		allow: []string{"", "  allow = [subnet.lan, subnet.far]\n", "  allow = [subnet.far, subnet.lan, host.tools]\n"}[s.allow],
	}
	if s.readOnly {
		p.mode = "read-only"
	}
	// Each block has room for every client of the load.
	for i := range s.blocks {
		first := 16 + 16*((s.block+i)%4)
		p.pools = append(p.pools, fmt.Sprintf("127.0.%d.0-127.0.%d.255", first, first+15))
	}
	for i, h := range s.reserved {
		h.address = fmt.Sprintf("127.0.3.%d", i)
		if s.moved[i] {
			h.address = fmt.Sprintf("127.0.4.%d", i)
		}
		p.hosts = append(p.hosts, h)
	}
	for i := range 20 {
		if h, ok := s.extra[i]; ok {
			p.hosts = append(p.hosts, h)
		}
	}
	p.hosts = append(p.hosts, mixHost{name: "tools", mac: mixMAC("tools").String(), address: soakTools})
	p.more = `
export "nbd" "tools" {
  image = image.root
}
`
	if s.second {
		p.more += `
export "nbd" "second" {
  image = image.root
}
`
	}
	return mixText(p)
}
