// Package nbdprobe reads an export of any NBD server, says how fast that went, and
// what the bytes are. It is a client of doc/proto.md of
// github.com/NetworkBlockDevice/nbd, whose headings name the clauses: fixed
// newstyle negotiation with STARTTLS, STRUCTURED_REPLY where it is offered, GO or
// else EXPORT_NAME, and READ. It writes nothing.
//
// The server is not trusted: nothing that it says makes the client hold more than
// what Config allows, or wait for longer.
package nbdprobe
