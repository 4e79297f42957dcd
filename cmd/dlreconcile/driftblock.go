package main

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine"
)

// driftBlock says how often the daemon looks whether the world is still what it
// published; see engine.DriftTimes and dhcp.Config, whose defaults hold for what is not
// written.
type driftBlock struct {
	Resync *hcl.Attribute `hcl:"resync,optional"`     // "10m": between looks at all files
	Scrub  *hcl.Attribute `hcl:"scrub,optional"`      // "24h": every file is read through; or "off"
	Rate   *hcl.Attribute `hcl:"scrub_rate,optional"` // "32MiB": bytes a second that this reads
	Probe  *hcl.Attribute `hcl:"dhcp_probe,optional"` // "5m": other DHCP servers are asked for; or "off"

	times engine.DriftTimes
	probe time.Duration // negative: never
}

// check reads the values.
func (b *driftBlock) check() hcl.Diagnostics {
	var diags hcl.Diagnostics
	text := func(a *hcl.Attribute, want string, read func(string) bool) {
		diags = append(diags, readSetting(a, want, read)...)
	}
	every := func(a *hcl.Attribute, want string, to *time.Duration, least, most time.Duration, off bool) {
		text(a, want, func(s string) bool {
			if off && s == "off" {
				*to = -1
				return true
			}
			d, err := time.ParseDuration(s)
			*to = d
			return err == nil && d >= least && d <= most
		})
	}
	every(b.Resync, `a time between looks, such as "10m", from "10s" to "24h"`, &b.times.Resync, 10*time.Second, 24*time.Hour, false)
	every(b.Scrub, `"off", or a time such as "24h", from "1m" to "8760h"`, &b.times.Scrub, time.Minute, 8760*time.Hour, true)
	// What is not heard of for 15 minutes is forgotten: it must be asked for before.
	every(b.Probe, `"off", or a time such as "5m", from "10s" to "10m"`, &b.probe, 10*time.Second, 10*time.Minute, true)
	text(b.Rate, `bytes a second, such as "32MiB", "1MiB" or more`, func(s string) bool {
		n, ok := bytesOf(s)
		b.times.Rate = n
		return ok && n >= 1<<20
	})
	return diags
}

// driftTimes gives what the engine is told; a block that is not written leaves the
// defaults.
func (b *driftBlock) driftTimes() engine.DriftTimes {
	if b == nil {
		return engine.DriftTimes{}
	}
	return b.times
}

// probeEvery gives what the DHCP provider is told: 0 the default, negative never.
func (b *driftBlock) probeEvery() time.Duration {
	if b == nil {
		return 0
	}
	return b.probe
}

// unwatched says what nobody looks for, for people.
func (b *driftBlock) unwatched() []string {
	var list []string
	if b.driftTimes().Scrub < 0 {
		list = append(list, "files that nobody touched are not read through (scrub = \"off\")")
	}
	if b.probeEvery() < 0 {
		list = append(list, "other DHCP servers are not asked for, only listened to (dhcp_probe = \"off\")")
	}
	return list
}
