// Package wire says what was on the wire: it reads a packet capture and lists, per
// machine, its DHCP packets, TFTP transfers, HTTP exchanges and NBD negotiations,
// with the digest of every byte that was delivered.
//
// It knows nothing of the servers, so that what they claim to have sent can be held
// against it. It reads classic pcap of Ethernet with IPv4; what else is on the wire
// is passed over. Checksums are not verified: a capture on the sending machine sees
// frames before its hardware has filled them in.
package wire
