package metrics

import (
	"context"
	"encoding/binary"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, e := range catalogue() {
		if e.name != phaseSeconds {
			ch <- e.desc()
		}
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	all := map[string][]Counter{"dlreconcile_build_info": {{[]string{m.version}, 1}}}
	m.mu.Lock()
	readings := make(map[string]Reading, len(m.readings))
	for name, r := range m.readings {
		readings[name] = r
	}
	for by, n := range m.attempts {
		all["dlreconcile_attempts_total"] = append(all["dlreconcile_attempts_total"], Counter{[]string{by[0], by[1]}, n})
	}
	for kind, n := range m.events {
		all["dlreconcile_events_total"] = append(all["dlreconcile_events_total"], Counter{[]string{string(kind)}, n})
	}
	all["dlreconcile_collections_total"] = one(m.gcRuns)
	all["dlreconcile_collected_blobs_total"] = one(m.gcBlobs)
	all["dlreconcile_collected_bytes_total"] = one(m.gcBytes)
	e := m.engine
	m.mu.Unlock()
	for name, r := range readings { // without the lock: they may take locks of their own
		all[name] = r()
	}
	if e != nil {
		status(all, e)
		all["dlreconcile_scrape_errors"] = one(0)
		ctx, cancel := context.WithTimeout(context.Background(), m.observing)
		obs, err := e.Observations(ctx)
		cancel()
		if err != nil {
			all["dlreconcile_scrape_errors"] = one(1)
		} else {
			observed(all, e.Desired(), obs)
		}
	}
	for _, c := range catalogue() {
		d := c.desc()
		for _, v := range all[c.name] {
			ch <- prometheus.MustNewConstMetric(d, c.kind, v.Value, v.Labels...)
		}
	}
}

func one(v float64) []Counter { return []Counter{{nil, v}} }

func truth(b bool) []Counter {
	if b {
		return one(1)
	}
	return one(0)
}

// status reads what the engine says of itself.
func status(all map[string][]Counter, e Engine) {
	s, _ := e.Status()
	ages := e.Ages()
	all["dlreconcile_generation"] = one(float64(s.Generation))
	all["dlreconcile_revision_info"] = []Counter{{[]string{s.Revision, s.Tip}, 1}}
	for _, c := range s.Conditions {
		all["dlreconcile_condition"] = append(all["dlreconcile_condition"], Counter{[]string{c.Type}, truth(c.Status)[0].Value})
	}
	drift := map[provider.DriftKind]float64{}
	for _, d := range s.Drift {
		drift[d.Kind]++
	}
	for _, kind := range provider.DriftKinds() {
		all["dlreconcile_drift"] = append(all["dlreconcile_drift"], Counter{[]string{string(kind)}, drift[kind]})
	}
	all["dlreconcile_repo_age_seconds"] = one(ages.Read.Seconds())
	all["dlreconcile_behind_seconds"] = one(ages.Behind.Seconds())
	all["dlreconcile_polls_total"] = one(float64(s.Polls))
	all["dlreconcile_held"] = truth(s.Held != nil)
	all["dlreconcile_waiting"] = truth(s.Waiting != nil)
	all["dlreconcile_on_trial"] = truth(s.Try != nil)
	all["dlreconcile_suspended"] = truth(s.Suspended != nil)
	all["dlreconcile_suspended_hosts"] = one(float64(len(s.SuspendedHosts)))
	all["dlreconcile_quarantined_revisions"] = one(float64(len(s.Quarantined)))
}

// observed counts what was seen. No label names a host: there may be thousands.
func observed(all map[string][]Counter, d *schema.Desired, obs []plan.Observation) {
	machines := map[string]float64{"booting": 0, "up": 0, "gone": 0}
	leases, pools := map[string]float64{}, map[string]float64{}
	var overlays, bytes float64
	if d != nil {
		for _, s := range d.Subnets {
			leases[s.Addr.String()] = 0
			for _, p := range s.Pools {
				pools[s.Addr.String()] += poolSize(p)
			}
		}
	}
	for _, o := range obs {
		switch o.Kind {
		case plan.SawNode:
			machines[o.State]++
		case plan.SawLease:
			leases[o.Subnet.String()]++
		case plan.SawOverlay:
			overlays++
			bytes += float64(o.Bytes)
		}
	}
	by := func(name string, counts map[string]float64) {
		for label, n := range counts {
			all[name] = append(all[name], Counter{[]string{label}, n})
		}
	}
	by("dlreconcile_machines", machines)
	by("dlreconcile_leases", leases)
	by("dlreconcile_pool_addresses", pools)
	all["dlreconcile_overlays"], all["dlreconcile_overlay_bytes"] = one(overlays), one(bytes)
}

// poolSize counts the addresses of a pool, both ends included.
func poolSize(p schema.Pool) float64 {
	if !p.From.Is4() || !p.To.Is4() {
		return 0
	}
	from, to := p.From.As4(), p.To.As4()
	return float64(binary.BigEndian.Uint32(to[:])) - float64(binary.BigEndian.Uint32(from[:])) + 1
}

// Tap counts the events that go by on their way to next.
func (m *Metrics) Tap(next provider.Sink) provider.Sink { return &tap{m, next} }

type tap struct {
	m    *Metrics
	next provider.Sink
}

func (t *tap) Event(ev provider.Event) {
	t.m.mu.Lock()
	t.m.events[ev.Kind]++
	t.m.mu.Unlock()
	t.next.Event(ev)
}

var _ engine.Meter = (*Metrics)(nil)
