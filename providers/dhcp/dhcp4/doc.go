// Package dhcp4 is a DHCPv4 server (RFC 2131, RFC 2132) for machines that boot
// from the network (RFC 4578), and the little bit of IPv6 that such machines wait
// for. It reads packets, finds the subnet in a table that the caller hands in
// with each packet, and keeps its promises in a lease.Store. It knows no
// configuration language and holds no state of its own. Where another server gives
// out the addresses it is a proxy DHCP server (PXE 2.1) beside that.
//
// Everything in an answer is computed by Reply or ProxyReply, pure functions of the
// subnet, what the packet says, and the lease: what they give for an imagined packet
// is what a real one gets.
package dhcp4
