package plan

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJSONHasSortedKeysAndReadsBack(t *testing.T) {
	p := compute(t, nil, func(s *site) { s.recipe = recipe2 })
	b, err := p.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var back Plan
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(*p, back); d != "" {
		t.Errorf("through JSON (-want +got):\n%s", d)
	}
	for _, pair := range [][2]string{{`"base_generation"`, `"changes"`}, {`"changes"`, `"format_version"`}, {`"action"`, `"address"`}, {`"inputs"`, `"range"`}} {
		if i, j := strings.Index(string(b), pair[0]), strings.Index(string(b), pair[1]); i < 0 || j < i {
			t.Errorf("%s does not come before %s", pair[0], pair[1])
		}
	}
	if strings.Contains(string(b), ": null") && strings.Count(string(b), ": null") > strings.Count(string(b), `"revision": null`) {
		t.Errorf("null where a list or an object is promised:\n%s", b)
	}
}

func TestJSONOfAnOlderRecord(t *testing.T) {
	var old Plan
	if err := json.Unmarshal([]byte(`{"format_version":1,"revision":null,"base_generation":1,"changes":[],"summary":{"create":0,"update":0,"replace":0,"delete":0,"no_op":3}}`), &old); err != nil {
		t.Fatal(err)
	}
	b, err := old.JSON()
	if err != nil || strings.Count(string(b), "null") != 1 || !strings.Contains(string(b), `"denied": []`) {
		t.Errorf("JSON %s, %v", b, err)
	}
}

func TestReadObserved(t *testing.T) {
	const node = `{"kind":"node","mac":"52:54:00:00:00:01","host":"host.ws[\"ws01\"]","state":"up"}`
	for in, want := range map[string]int{
		"[" + node + "]": 1,
		"[]":             0,
		"null":           0,
		`{"record":{"number":3},"observations":[` + node + "," + node + "]}": 2,
		"{}": 0,
	} {
		got, err := ReadObserved(strings.NewReader(in))
		if err != nil || len(got) != want || got == nil {
			t.Errorf("%s: %d observations, %v; want %d", in, len(got), err, want)
		}
	}
	for in, want := range map[string]string{
		"":                                     "EOF",
		"[] []":                                "follows",
		`[{"kind":"weather"}]`:                 `observation 1: unknown kind "weather"`,
		`[{"kind":"node","state":"dancing"}]`:  `unknown state "dancing"`,
		`[{"kind":"node","time":1}]`:           `unknown field "time"`,
		`[{"kind":"overlay","bytes":-1}]`:      "negative",
		`{"observations":{"kind":"node"}}`:     "cannot unmarshal",
		`[{"kind":"node","host":"nonsense["}]`: "quoted string",
		`[{"kind":"node","tree":"` + strings.Repeat("x", 2000) + `"}]`: "1024 bytes",
	} {
		if _, err := ReadObserved(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: error %v, want one with %q", in, err, want)
		}
	}
	if _, err := ReadObserved(endless{}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("an endless file gives %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func FuzzReadObserved(f *testing.F) {
	f.Add(`[{"kind":"node","mac":"52:54:00:00:00:01","host":"host.ws[\"ws01\"]","state":"up","artifact":"sha256:77","image":"image.arch"}]`)
	f.Add(`{"observations":[{"kind":"lease","address":"10.0.0.200","subnet":"subnet.lan"}]}`)
	f.Add(`[{"kind":"connection","address":"::1","export":"arch@x+y"}]`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, s string) {
		obs, err := ReadObserved(strings.NewReader(s))
		if err != nil {
			return
		}
		// Whatever is read can be planned with.
		p := compute(t, obs, func(s *site) {
			s.recipe, s.allow, s.pool[0], s.nbdPort, s.hosts = recipe2, []string{"subnet.lan"}, "10.0.0.254", 1, s.hosts[1:]
		})
		if _, err := p.JSON(); err != nil {
			t.Fatal(err)
		}
		for _, r := range rendered(t, p) {
			if r < ' ' && r != '\n' {
				t.Fatalf("a control character reaches the terminal")
			}
		}
	})
}
