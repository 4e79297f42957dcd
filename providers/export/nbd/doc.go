// Package nbd serves block devices over the network block device protocol, as
// described by doc/proto.md of github.com/NetworkBlockDevice/nbd; clauses are
// named by their headings there.
//
// What is supported:
//
//	handshake     fixed newstyle, NO_ZEROES; no TLS (NOTLS mode)
//	options       EXPORT_NAME ABORT LIST INFO GO; every other one: ERR_UNSUP
//	information   EXPORT NAME DESCRIPTION BLOCK_SIZE (1, 4096, 32 MiB)
//	replies       simple only; STRUCTURED_REPLY is refused, as the clause allows
//	commands      READ WRITE DISC FLUSH TRIM WRITE_ZEROES, FUA
//
// The package knows exports only through a Handler, so it decides nothing about
// names, access or storage. It is written for hostile peers: no length on the
// wire makes it allocate before it was checked, and what one connection can hold
// is bounded (see Limits).
//
// A server that stops disconnects; it never answers ESHUTDOWN. The Linux client
// hands that error to the file system, while a lost connection is retried.
package nbd
