// Package httpboot serves boot files over HTTP/1.1 (RFC 9110, RFC 9112) to the
// clients that firmware and boot loaders have: GET and HEAD with ranges, entity
// tags from digests, bytes by sendfile. Machines report how far they got with
// POST /phone/<stage>.
//
// What a request may name, and what the bytes are, is the caller's business: see
// Config.Open.
package httpboot
