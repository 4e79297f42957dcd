package metrics

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Engine is what is asked of the engine. *engine.Engine is one.
type Engine interface {
	Status() (engine.Status, <-chan struct{})
	Ages() engine.Ages
	Desired() *schema.Desired
	Observations(context.Context) ([]plan.Observation, error)
}

// Counter is a number that a part of the daemon counts, with the values of the labels
// of its metric.
type Counter struct {
	Labels []string
	Value  float64
}

// Reading reads a metric, at every scrape. It does not block.
type Reading func() []Counter

// Metrics is a registry, and the engine's meter. Make one with New; it is safe for
// concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	phases   *prometheus.HistogramVec

	mu        sync.Mutex // guards the fields below
	engine    Engine     // nil until Watch
	readings  map[string]Reading
	attempts  map[[2]string]float64 // by result and reason
	events    map[provider.EventKind]float64
	gcRuns    float64
	gcBlobs   float64
	gcBytes   float64
	version   string
	observing time.Duration // how long a scrape waits for the providers at most
}

// New makes the registry. version is the program's.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewPedanticRegistry(), readings: map[string]Reading{}, attempts: map[[2]string]float64{},
		events: map[provider.EventKind]float64{}, version: version, observing: 5 * time.Second,
	}
	m.phases = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: phaseSeconds, Help: helpOf(phaseSeconds),
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60, 300, 1800},
	}, []string{"phase"})
	m.registry.MustRegister(m, m.phases, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Watch says whose state is shown. Until then there is none to show.
func (m *Metrics) Watch(e Engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engine = e
}

// Read has a metric of the catalogue read by a function at each scrape. A metric that
// is not in the catalogue is a mistake of the program's: it panics.
func (m *Metrics) Read(name string, r Reading) {
	if _, ok := find(name); !ok {
		panic(fmt.Sprintf("metrics: %s is not in the catalogue", name))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readings[name] = r
}

// Attempt implements engine.Meter.
func (m *Metrics) Attempt(result, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts[[2]string{result, reason}]++
}

// Phase implements engine.Meter.
func (m *Metrics) Phase(p engine.Phase, took time.Duration) {
	m.phases.WithLabelValues(string(p)).Observe(took.Seconds())
}

// Collected implements engine.Meter.
func (m *Metrics) Collected(blobs int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gcRuns++
	m.gcBlobs += float64(blobs)
	m.gcBytes += float64(bytes)
}

// Gatherer gives what is shown.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// mostScrapes bounds how many scrapes are answered at once.
const mostScrapes = 4

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: mostScrapes, Timeout: 2 * m.observing})
}
