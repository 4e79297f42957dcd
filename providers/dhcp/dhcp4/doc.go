// Package dhcp4 is a DHCPv4 server (RFC 2131, RFC 2132) for machines that boot
// from the network (RFC 4578), and the little bit of IPv6 that such machines wait
// for. It reads packets, finds the subnet in a table that the caller hands in
// with each packet, and keeps its promises in a lease.Store. It knows no
// configuration language and holds no state of its own.
//
// Everything in an answer is computed by Reply, a pure function of the subnet,
// what the packet says, and the lease: what it gives for an imagined packet is
// what a real one gets.
package dhcp4
