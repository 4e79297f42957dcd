// Package tftp serves files read-only over TFTP (RFC 1350) with the options of
// RFC 2347, 2348 (blksize), 2349 (timeout, tsize) and 7440 (windowsize), over
// IPv4.
//
// One socket takes the requests. Each request is checked, counted against the
// limits and folded with its own duplicates before anything is started for it.
// Plain lockstep transfers are then carried by pin/tftp, which reads requests
// from this package through a net.PacketConn; what that library does not speak
// is sent by the windowed sender here: windowsize, timeout, block sizes below
// 512, and answers that must leave from another address than the kernel's choice.
//
// What a request may name, and what the bytes are, is the caller's business: see
// Config.Open.
package tftp
