package main

import (
	"log/slog"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/keyfile"
	"github.com/dlreconcile/dlreconcile/providers/export"
)

// check says what is wrong with the block.
func (n *nbdBlock) check(wrong func(at hcl.Range, summary, detail string)) {
	switch {
	case (n.TLSCert == "") != (n.TLSKey == ""):
		wrong(n.At, "Half a certificate", "tls_cert and tls_key go together: write both, or neither for a server without TLS.")
	case n.ClientCA != "" && n.TLSCert == "":
		wrong(n.At, "Certificates of clients without one of the server", "client_ca signs the certificates of those who speak TLS, and the server speaks none: write tls_cert and tls_key.")
	}
}

// tls gives what the NBD server speaks TLS with; nil: it speaks none.
func (n *nbdBlock) tls(log *slog.Logger) *export.TLS {
	if n == nil || n.TLSCert == "" {
		return nil
	}
	t := keyfile.TLS{Certificate: keyfile.Pair(n.TLSCert, n.TLSKey).Told(unreadable(log, "nbd"))}
	if n.ClientCA != "" {
		t.ClientCA = keyfile.Authorities(n.ClientCA).Told(unreadable(log, "nbd"))
	}
	_ = t.Usable() // told now, not when somebody connects
	return &export.TLS{Config: t.Config(), Usable: t.Usable}
}

// nbdSocket gives the path of the NBD server's Unix socket; "": there is none.
func (s *settings) nbdSocket() string {
	if n := s.blocks.NBD; n != nil && n.Socket != nil {
		return *n.Socket
	}
	return filepath.Join(s.State, "nbd.sock")
}
