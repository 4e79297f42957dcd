// Package metrics shows the daemon to Prometheus: one registry of its own, collectors
// that read what the parts count anyway, and a listener that answers nothing else.
package metrics
