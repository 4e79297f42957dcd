// Package node knows the machines: which boot session each one has open, whose
// root is attached from where, how far each boot got and how long it took. It is
// fed by the servers' events, says which generations must go on being served, and
// keeps what correctness hangs on (open sessions, attached roots) on disk.
//
// A machine is kept by its hardware address. One whose addresses another DHCP
// server gives out, and whose packets are not seen here, is kept by its address
// (provider.AddressMAC), and its sessions begin with the files that it asks for:
// see Tracker.Fetch.
//
// A machine has two boots at most. The one that is booting is the open boot
// session: its DHCP exchanges are answered from the generation that it was opened
// on. The one that is running has its root attached. They are the same boot
// between the attachment of the root and the end of the session, and they are kept
// apart otherwise, because whoever can send a DISCOVER with a machine's hardware
// address can open a session for it, and that must not take away what a machine
// that is up stands on.
package node
