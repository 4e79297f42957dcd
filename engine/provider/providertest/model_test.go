package providertest

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// model is a small provider that keeps the contract, but for one fault. It answers
// every machine with the domain name of the first subnet, on one TCP socket, and
// holds one file of the content store open.
type model struct {
	state string
	fault string

	mu      sync.Mutex
	current uint64
	byGen   map[uint64]*table
	socks   map[netip.AddrPort]*sock
	ended   bool
	count   int                     // of Prepare
	lost    []*os.File              // that should be closed
	broken  map[netip.AddrPort]bool // sockets that were lost; true: somebody has heard of it
}

type sock struct {
	net.Listener
	pending int
	active  bool
}

type table struct {
	gen    uint64
	text   string
	listen netip.AddrPort
	blob   *os.File
}

func (m *model) Name() string    { return "model" }
func (m *model) Kinds() []string { return []string{"subnet"} }

func (m *model) Run(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			m.rebind()
		case <-ctx.Done():
		}
	}
	if m.fault == "run fails" {
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	if m.fault == "run leaves sockets" {
		return nil
	}
	for _, s := range m.socks {
		s.Close()
	}
	return nil
}

// rebind opens again what was lost and told.
func (m *model) rebind() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for a, told := range m.broken {
		if !told {
			continue
		}
		if l, err := net.Listen("tcp4", a.String()); err == nil {
			m.socks[a].Listener = l
			delete(m.broken, a)
		}
	}
}

// lose closes all sockets.
func (m *model) lose() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for a, s := range m.socks {
		s.Close()
		m.broken[a] = false
		names = append(names, "model "+a.String())
	}
	return names
}

func (m *model) Look(context.Context) error {
	if m.fault == "cannot look for drift" {
		return errors.New("cannot look")
	}
	return nil
}

func (m *model) Drift() []provider.Drift {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []provider.Drift
	for a := range m.broken {
		m.broken[a] = true
		d := provider.LostListener("model", a, net.ErrClosed)
		if m.fault == "names another server" {
			d.Address = schema.Addr{Kind: "server", Name: "other"}
		}
		d.Heals = m.fault != "says that it does not heal"
		list = append(list, d)
	}
	return list
}

func wrong(summary string) error {
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: summary, Detail: "why", Subject: &hcl.Range{Filename: "site.hcl", Start: hcl.Pos{Line: 1, Column: 1}}}}
}

func (m *model) Prepare(ctx context.Context, in provider.Input) (provider.Txn, error) {
	if ctx.Err() != nil && m.fault != "deaf" {
		return nil, ctx.Err()
	}
	scratch := filepath.Join(m.state, "tmp", "work")
	if err := os.WriteFile(scratch, nil, 0o600); err != nil {
		return nil, err
	}
	if m.fault != "leaves scratch" {
		defer os.Remove(scratch)
	}
	if in.Want.Subnets[0].DomainName == "" {
		switch m.fault {
		case "no place":
			return nil, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Wrong"}}
		case "takes anything":
		case "leaves a goroutine":
			go func() { select {} }()
			return nil, wrong("No domain")
		default:
			return nil, wrong("No domain")
		}
	}
	if m.fault == "changes its input" {
		in.Want.Subnets[0].InterfaceMTU++
	}
	path := filepath.Join(m.state, "blobs", in.Want.Subnets[0].DomainName)
	if _, err := os.Stat(path); err != nil || m.fault == "works twice" {
		if err := os.WriteFile(path, []byte(in.Want.Subnets[0].DomainName), 0o600); err != nil {
			return nil, err
		}
	}
	if m.fault == "writes elsewhere" {
		if err := os.WriteFile(filepath.Join(m.state, "state.db"), []byte(in.Want.Subnets[0].DomainName), 0o600); err != nil {
			return nil, err
		}
	}
	blob, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m.count++
	x := &txn{m: m, in: in, count: m.count, table: &table{gen: in.Generation, text: in.Want.Subnets[0].DomainName, listen: in.Want.Servers[0].NBD.Listen, blob: blob}}
	if in.Offline && m.fault == "differs offline" {
		x.table.text += " offline"
	}
	if !in.Retained || m.fault == "binds for a retained generation" {
		if err := m.acquire(x.table.listen); err != nil {
			blob.Close()
			return nil, err
		}
		x.bound = true
	}
	if m.fault == "shows what is prepared" {
		m.mu.Lock()
		m.byGen[in.Generation] = x.table
		m.mu.Unlock()
	}
	return x, nil
}

func (m *model) acquire(a netip.AddrPort) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return errors.New("ended")
	}
	if s := m.socks[a]; s != nil {
		if m.fault != "rebinds" {
			s.pending++
			return nil
		}
		s.Close()
	}
	l, err := net.Listen("tcp4", a.String())
	if err != nil {
		return err
	}
	m.socks[a] = &sock{Listener: l, pending: 1}
	return nil
}

func (t *table) answer() []provider.Answer {
	return []provider.Answer{{Kind: provider.AnswerDHCP, Provider: "model", Text: t.text}}
}

func (m *model) Answer(q provider.Query) []provider.Answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	gen := q.Generation
	if gen == 0 {
		gen = m.current
	}
	t := m.byGen[gen]
	if t == nil && m.fault == "answers for unknown generations" {
		t = m.byGen[m.current]
	}
	if t == nil {
		return nil
	}
	return t.answer()
}

func (m *model) Retire(_ context.Context, live provider.Live) error {
	if m.fault == "retires nothing" {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	keep := map[netip.AddrPort]bool{}
	for gen, t := range m.byGen {
		if gen == m.current && m.fault != "retires the current one" || live.Generations[gen] && m.fault != "retires what is live" {
			keep[t.listen] = true
			continue
		}
		m.drop(t.blob, "holds blobs")
		delete(m.byGen, gen)
	}
	for a, s := range m.socks {
		if !keep[a] && s.pending == 0 && m.fault != "holds sockets" {
			s.Close()
			delete(m.socks, a)
		}
	}
	return nil
}

// drop closes a file, unless that is the fault.
func (m *model) drop(f *os.File, fault string) {
	if m.fault == fault {
		m.lost = append(m.lost, f)
		return
	}
	f.Close()
}

func (m *model) Observe(context.Context) ([]plan.Observation, error) {
	if m.fault == "cannot observe" {
		return nil, errors.New("cannot look")
	}
	return nil, nil
}

type txn struct {
	m     *model
	in    provider.Input
	table *table
	bound bool
	done  bool
	count int
}

func (x *txn) Outputs() map[schema.Addr]provider.Output {
	id := x.table.text
	if x.m.fault == "outputs differ" {
		id += string(rune('a' + x.count))
	}
	return map[schema.Addr]provider.Output{{Kind: "subnet", Name: "lan"}: {Trees: map[provider.TreeKey]*provider.Tree{{}: {ID: id}}}}
}

func (x *txn) Answer(q provider.Query) []provider.Answer {
	if x.m.fault == "a transaction answers from the published table" {
		return x.m.Answer(q)
	}
	return x.table.answer()
}

func (x *txn) Commit() {
	if x.done && x.m.fault != "commits twice" {
		return
	}
	m := x.m
	m.mu.Lock()
	defer m.mu.Unlock()
	x.done = true
	if old := m.byGen[x.table.gen]; old != nil && old != x.table {
		m.drop(old.blob, "holds the same twice")
	}
	m.byGen[x.table.gen] = x.table
	if !x.in.Retained || m.fault == "makes retained ones current" {
		m.current = x.table.gen
	}
	if s := m.socks[x.table.listen]; x.bound && s != nil {
		s.pending--
		s.active = true
	}
	if m.fault == "torn" {
		x.table.text += "?"
		m.mu.Unlock()
		for range 1000 {
			runtime.Gosched()
		}
		m.mu.Lock()
		x.table.text = strings.TrimSuffix(x.table.text, "?")
	}
}

func (x *txn) Abort() {
	if x.done && x.m.fault != "aborts what is committed" {
		return
	}
	x.done = true
	m := x.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(x.table.blob, "abort holds blobs")
	if m.fault == "aborts what is committed" {
		delete(m.byGen, x.table.gen)
	}
	if s := m.socks[x.table.listen]; x.bound && s != nil && m.fault != "abort holds sockets" {
		s.pending--
		if s.pending == 0 && !s.active {
			s.Close()
			delete(m.socks, x.table.listen)
		}
	}
}

func modelHarness(fault string) Harness {
	site := func(text string, at netip.AddrPort) provider.Input {
		lan := schema.Addr{Kind: "subnet", Name: "lan"}
		return provider.Input{Want: &schema.Desired{
			Servers: []*schema.Server{{NBD: schema.Listener{Listen: at}}},
			Subnets: []*schema.Subnet{{Meta: schema.Meta{Addr: lan}, DomainName: text}},
		}}
	}
	return Harness{
		Inputs: func(t *testing.T, state string) Inputs {
			for _, dir := range []string{"tmp", "blobs"} {
				if err := os.MkdirAll(filepath.Join(state, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			port := func(close bool) netip.AddrPort {
				l, err := net.Listen("tcp4", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				if close {
					l.Close()
				} else {
					t.Cleanup(func() { l.Close() })
				}
				return l.Addr().(*net.TCPAddr).AddrPort()
			}
			at := port(true)
			in := Inputs{
				One: site("one", at), Two: site("two", at), Moved: site("one", port(true)), Taken: site("one", port(false)),
				Bad:     map[string]provider.Input{"no domain": site("", at)},
				Queries: []provider.Query{{}, {MAC: provider.MAC{2}}},
			}
			if fault == "no bad input" {
				in.Bad, in.Taken = map[string]provider.Input{}, provider.Input{}
			}
			if fault == "one like two" {
				in.Two = in.One
			}
			return in
		},
		Open: func(_ *testing.T, state string) provider.Provider {
			return &model{state: state, fault: fault, byGen: map[uint64]*table{}, socks: map[netip.AddrPort]*sock{}, broken: map[netip.AddrPort]bool{}}
		},
		Lose: func(_ *testing.T, p provider.Provider) []string { return p.(*model).lose() },
	}
}

// theFault names the fault of the model in a process that is started for it.
const theFault = "PROVIDERTEST_FAULT"

// A provider that keeps the contract passes.
func TestModel(t *testing.T) {
	Run(t, modelHarness(os.Getenv(theFault)))
}

// Each way to break the contract is found, by the check that is about it.
func TestFaults(t *testing.T) {
	if os.Getenv(theFault) != "" {
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	faults := map[string]string{
		"one like two": "names",
		"no bad input": "prepare_refuses",
		"a transaction answers from the published table": "names",
		"shows what is prepared":                         "prepare_shows_nothing",
		"writes elsewhere":                               "prepare_shows_nothing",
		"abort holds sockets":                            "prepare_shows_nothing",
		"abort holds blobs":                              "prepare_shows_nothing",
		"rebinds":                                        "prepare_shows_nothing",
		"works twice":                                    "prepare_again",
		"outputs differ":                                 "prepare_again",
		"leaves scratch":                                 "prepare_refuses",
		"no place":                                       "prepare_refuses",
		"takes anything":                                 "prepare_refuses",
		"leaves a goroutine":                             "prepare_refuses",
		"differs offline":                                "prepare_offline",
		"answers for unknown generations":                "commit_publishes",
		"commits twice":                                  "commit_or_abort",
		"aborts what is committed":                       "commit_or_abort",
		"holds the same twice":                           "commit_the_same_generation_again",
		"holds sockets":                                  "commit_moves_sockets",
		"makes retained ones current":                    "retained_beside_the_current_one",
		"binds for a retained generation":                "retained_beside_the_current_one",
		"retires nothing":                                "retire",
		"retires the current one":                        "retire",
		"retires what is live":                           "retire",
		"holds blobs":                                    "retire",
		"cannot observe":                                 "retire",
		"run fails":                                      "run_with_nothing_to_serve",
		"run leaves sockets":                             "run_ends",
		"changes its input":                              "run_comes_last",
		"torn":                                           "concurrent",
		"cannot look for drift":                          "watches",
		"names another server":                           "watches",
		"says that it does not heal":                     "watches",
	}
	slots := make(chan struct{}, 8)
	for _, fault := range slices.Sorted(maps.Keys(faults)) {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			out, err := runModel(t, exe, fault, faults[fault])
			if err == nil || !strings.Contains(out, "--- FAIL: TestModel/"+faults[fault]) {
				t.Errorf("not found by %q: %v\n%s", faults[fault], err, out)
			}
		})
	}
}
