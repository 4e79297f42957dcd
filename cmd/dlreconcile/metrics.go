package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/dlreconcile/dlreconcile/engine/metrics"
	"github.com/dlreconcile/dlreconcile/engine/statefile"
	"github.com/dlreconcile/dlreconcile/engine/webhook"
	"github.com/dlreconcile/dlreconcile/providers/bootloader"
	"github.com/dlreconcile/dlreconcile/providers/dhcp"
	"github.com/dlreconcile/dlreconcile/providers/export"
)

// readDHCP shows what DHCP counts.
func readDHCP(m *metrics.Metrics, p *dhcp.Provider) {
	m.Read(metrics.DHCPPackets, func() (list []metrics.Counter) {
		for _, c := range p.Counts() {
			list = append(list, metrics.Counter{Labels: []string{c.Asked, c.Answered}, Value: float64(c.Packets)})
		}
		return list
	})
}

// readTransfers shows what TFTP and HTTP count.
func readTransfers(m *metrics.Metrics, p *bootloader.Provider) {
	read := func(name string, values func(string, bootloader.Transfers) []metrics.Counter) {
		m.Read(name, func() (list []metrics.Counter) {
			for protocol, t := range p.Transfers() {
				list = append(list, values(protocol, t)...)
			}
			return list
		})
	}
	read(metrics.TransfersStarted, func(protocol string, t bootloader.Transfers) []metrics.Counter {
		return []metrics.Counter{{Labels: []string{protocol}, Value: float64(t.Started)}}
	})
	read(metrics.TransfersDone, func(protocol string, t bootloader.Transfers) []metrics.Counter {
		return []metrics.Counter{
			{Labels: []string{protocol, "done"}, Value: float64(t.Done)},
			{Labels: []string{protocol, "failed"}, Value: float64(t.Failed)},
		}
	})
	read(metrics.TransferBytes, func(protocol string, t bootloader.Transfers) []metrics.Counter {
		return []metrics.Counter{{Labels: []string{protocol}, Value: float64(t.Bytes)}}
	})
}

// readExports shows what NBD counts.
func readExports(m *metrics.Metrics, p *export.Provider) {
	m.Read(metrics.NBDConnections, func() []metrics.Counter {
		return []metrics.Counter{{Value: float64(p.Counts().Open)}}
	})
	m.Read(metrics.NBDAccepted, func() []metrics.Counter {
		c := p.Counts()
		return []metrics.Counter{
			{Labels: []string{"accepted"}, Value: float64(c.Connections)}, {Labels: []string{"refused"}, Value: float64(c.Refused)},
		}
	})
	m.Read(metrics.NBDDenied, func() []metrics.Counter {
		return []metrics.Counter{{Value: float64(p.Counts().Denied)}}
	})
	m.Read(metrics.OverlaysLimited, func() []metrics.Counter {
		n := map[string]float64{}
		for _, o := range p.Limited() {
			switch {
			case o.Bytes >= o.Limit:
				n["full"]++
			case nearLimit(o):
				n["near"]++
			default:
				n["below"]++
			}
		}
		return []metrics.Counter{
			{Labels: []string{"below"}, Value: n["below"]}, {Labels: []string{"near"}, Value: n["near"]}, {Labels: []string{"full"}, Value: n["full"]},
		}
	})
	m.Read(metrics.NBDBytes, func() []metrics.Counter {
		c := p.Counts()
		return []metrics.Counter{{Labels: []string{"read"}, Value: float64(c.Read)}, {Labels: []string{"write"}, Value: float64(c.Written)}}
	})
}

// readDisk shows what the state directory takes, and what is left.
func readDisk(m *metrics.Metrics, state string, log *slog.Logger) {
	m.Read(metrics.StoreBytes, func() []metrics.Counter {
		bytes, err := sizeOf(filepath.Join(state, "blobs"))
		if err != nil {
			log.Debug("metrics", "error", err)
			return nil
		}
		return []metrics.Counter{{Value: float64(bytes)}}
	})
	m.Read(metrics.StateFreeBytes, func() []metrics.Counter {
		free, _, err := statefile.Free(state)
		if err != nil {
			log.Debug("metrics", "error", err)
			return nil
		}
		return []metrics.Counter{{Value: float64(free)}}
	})
}

// sizeOf adds up the files below a folder, of which there are few; those that go
// meanwhile do not count.
func sizeOf(folder string) (total int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total, err
}

// readWebhook shows what came of the forge's requests.
func readWebhook(m *metrics.Metrics, s *webhook.Server) {
	m.Read(metrics.WebhookRequests, func() []metrics.Counter {
		c := s.Counts()
		return []metrics.Counter{
			{Labels: []string{"accepted"}, Value: float64(c.Accepted)}, {Labels: []string{"forged"}, Value: float64(c.Forged)},
			{Labels: []string{"flooded"}, Value: float64(c.Flooded)}, {Labels: []string{"refused"}, Value: float64(c.Refused)},
		}
	})
}
