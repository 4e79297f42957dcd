// Package export serves images to diskless machines: read-only, or copy-on-write
// with an overlay per machine and boot, over the network block protocol.
//
// # Names
//
// An export is served as `<name>@<12 hex digits of the artifact>`, so a name
// stands for the same bytes for ever. A client may append `+<boot instance>`, 1
// to 64 of [0-9a-zA-Z-]: our initramfs appends the kernel's boot id. The
// undigested alias `<name>` stands for what the client's boot began with.
//
// A name is looked for in every generation that is published: first the one that
// the client is pinned to, then the current one, then the others. A machine that
// has an overlay gets back to it whatever was retired meanwhile, as long as its base is
// in the store.
//
// # Access
//
// Who may attach is asked at every connection: the machine behind the address
// (provider.Clients), the list of the export in the current generation, and whether
// it needs TLS. At the Unix socket there are no machines: see local.go.
//
// # Overlays
//
// The key of an overlay is (machine, boot instance, export name without digest).
// The machine is its MAC, or its address when no MAC is known. The instance is
// what the client names; else its boot session; else, for a machine that never
// booted from here, "static".
//
//   - The same named instance again is the same boot, come back after a broken
//     connection: its old connections are dropped and drained before GO is
//     answered, so that no write that is still queued there lands after newer
//     ones. Such exports are therefore not CAN_MULTI_CONN. Without a named
//     instance two connections may be two tools, and both are served.
//   - Another named instance of the same machine is a reboot: once the new one is
//     attached, to whatever export and in whatever mode, the connections of the
//     old to its overlays are dropped and those are discarded, for good. The
//     newcomer wins, as the old connection of a machine that was switched off
//     looks alive until its keepalive fails; but one from another address is
//     refused until then, as anybody can get himself an address in the name of
//     a machine that is up. An old boot is told from a new one by what is
//     remembered of boots: see former.go.
//   - A client that names no instance never ends the boot of one that does: it
//     is taken for a tool that runs beside the root file system.
//
// That is keep = "boot". With keep = "host", and in the one working copy of a
// read-write export, a machine's next boot goes on with the overlay: see kept.go. With
// keep = "connection" each connection has one: see connection.go.
package export
