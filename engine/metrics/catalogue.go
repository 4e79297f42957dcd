package metrics

import "github.com/prometheus/client_golang/prometheus"

// entry is one metric of ours.
type entry struct {
	name   string
	kind   prometheus.ValueType // of a histogram: prometheus.UntypedValue
	labels []string
	help   string
}

// phaseSeconds is the one histogram.
const phaseSeconds = "dlreconcile_phase_duration_seconds"

// Names of the metrics that parts outside of the engine count; see Metrics.Read.
const (
	DHCPPackets       = "dlreconcile_dhcp_packets_total"
	TransfersStarted  = "dlreconcile_transfers_started_total"
	TransfersDone     = "dlreconcile_transfers_total"
	TransferBytes     = "dlreconcile_transfer_bytes_total"
	NBDConnections    = "dlreconcile_nbd_connections"
	NBDAccepted       = "dlreconcile_nbd_accepted_total"
	NBDDenied         = "dlreconcile_nbd_denied_total"
	OverlaysLimited   = "dlreconcile_overlays_limited"
	NBDBytes          = "dlreconcile_nbd_bytes_total"
	StoreBytes        = "dlreconcile_store_bytes"
	StateFreeBytes    = "dlreconcile_state_free_bytes"
	WebhookRequests   = "dlreconcile_webhook_requests_total"
	NotifyDeliveries  = "dlreconcile_notify_deliveries_total"
	NotifyOutstanding = "dlreconcile_notify_outstanding"
)

// catalogue lists every metric of ours, as docs/metrics.md does.
func catalogue() []entry {
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	return []entry{
		{"dlreconcile_build_info", gauge, []string{"version"}, "1; the version of this program."},
		{"dlreconcile_generation", gauge, nil, "Number of the generation that is served; 0 while none is."},
		{"dlreconcile_revision_info", gauge, []string{"served", "newest"}, "1; the commit that is served, and the newest that was seen."},
		{"dlreconcile_condition", gauge, []string{"type"}, "1 while a condition of the status holds, else 0."},
		{"dlreconcile_drift", gauge, []string{"kind"}, "What is not as it was published, by kind, as in dlreconcile drift."},
		{"dlreconcile_repo_age_seconds", gauge, nil, "Since the repo was last read well; since the start while it never was."},
		{"dlreconcile_behind_seconds", gauge, nil, "Since the newest commit was seen, while it is not served; else 0."},
		{"dlreconcile_polls_total", counter, nil, "Looks at the repo, whatever came of them."},
		{"dlreconcile_attempts_total", counter, []string{"result", "reason"}, "Lines of the audit log: attempts and orders by what they came to."},
		{phaseSeconds, prometheus.UntypedValue, []string{"phase"}, "How long the phases of attempts took."},
		{"dlreconcile_held", gauge, nil, "1 while the tracked ref is held, else 0."},
		{"dlreconcile_waiting", gauge, nil, "1 while a commit waits for an approval or a window, else 0."},
		{"dlreconcile_on_trial", gauge, nil, "1 while what is served goes back by itself unless it is confirmed, else 0."},
		{"dlreconcile_suspended", gauge, nil, "1 while everything is suspended, else 0."},
		{"dlreconcile_suspended_hosts", gauge, nil, "Hosts that are suspended."},
		{"dlreconcile_quarantined_revisions", gauge, nil, "Revisions that are not tried by themselves."},
		{"dlreconcile_machines", gauge, []string{"state"}, "Machines that booted from here, by state."},
		{"dlreconcile_events_total", counter, []string{"kind"}, "What happened on the wire, by kind, as in the events."},
		{DHCPPackets, counter, []string{"type", "answer"}, "DHCP and BOOTP packets of clients, by what they are and what they got."},
		{"dlreconcile_leases", gauge, []string{"subnet"}, "Unexpired leases of a subnet."},
		{"dlreconcile_pool_addresses", gauge, []string{"subnet"}, "Addresses in the pools of a subnet."},
		{TransfersStarted, counter, []string{"protocol"}, "Boot files that were opened for a client; over HTTP for HEAD too."},
		{TransfersDone, counter, []string{"protocol", "result"}, "Boot files that were sent to their end, or not."},
		{TransferBytes, counter, []string{"protocol"}, "Bytes of boot files that clients took."},
		{NBDConnections, gauge, nil, "Open connections to exports."},
		{NBDAccepted, counter, []string{"result"}, "TCP connections to the NBD server, by whether there was room for them."},
		{NBDDenied, counter, nil, "Clients that may not have the export that they asked for."},
		{NBDBytes, counter, []string{"direction"}, "Bytes of data, as clients see the direction."},
		{"dlreconcile_overlays", gauge, nil, "Copy-on-write overlays on disk."},
		{"dlreconcile_overlay_bytes", gauge, nil, "Bytes that overlays hold."},
		{OverlaysLimited, gauge, []string{"used"}, "Overlays with a limit, by how much of it they hold: below 90 %, from there on, all of it."},
		{StoreBytes, gauge, nil, "Bytes of the blobs in the content store."},
		{StateFreeBytes, gauge, nil, "Bytes that are free where the state directory is."},
		{"dlreconcile_collections_total", counter, nil, "Collections of blobs that nobody needs."},
		{"dlreconcile_collected_blobs_total", counter, nil, "Blobs that were collected."},
		{"dlreconcile_collected_bytes_total", counter, nil, "Bytes of the blobs that were collected."},
		{WebhookRequests, counter, []string{"result"}, "Requests to the webhook, by what came of them."},
		{NotifyDeliveries, counter, []string{"target", "result"}, "Messages to a forge or a notify block, by what came of them."},
		{NotifyOutstanding, gauge, []string{"target"}, "Messages that are still to be delivered."},
		{"dlreconcile_scrape_errors", gauge, nil, "1 when this scrape could not read machines, leases and overlays, else 0."},
	}
}

// find gives the entry of a metric.
func find(name string) (entry, bool) {
	for _, e := range catalogue() {
		if e.name == name {
			return e, true
		}
	}
	return entry{}, false
}

func helpOf(name string) string {
	e, _ := find(name)
	return e.help
}

func (e *entry) desc() *prometheus.Desc { return prometheus.NewDesc(e.name, e.help, e.labels, nil) }
