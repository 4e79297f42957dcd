// Package lab is a private network with real machines in it: one network
// namespace with a bridge, QEMU machines that boot from it under real firmware,
// further namespaces for foreign clients, and a capture of every frame.
//
// Nothing outside the namespaces is touched: no address, route, rule or device
// of the host changes. A Lab needs root, and the packages that Missing names.
//
// Machines run under emulation, on any processor. A Linux guest then wants
// no_timer_check on its kernel line: early in its boot it counts timer interrupts
// against the host's clock, and on a busy host may find too few and panic with
// "IO-APIC + timer doesn't work!".
//
// What a Lab makes carries the process that made it in its name. Close removes
// it; after a crash QEMU dies with its parent and the next New removes the rest.
package lab
