package main

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
)

// daemonBlocks are the blocks of daemon.hcl. A block that is not written is nil.
// Paths that are relative are so to the working directory; a value
// "credential:NAME" in place of a path names a file of $CREDENTIALS_DIRECTORY, see
// systemd.exec(5).
type daemonBlocks struct {
	Trust        *trustBlock          `hcl:"trust,block"`
	Limits       *limitsBlock         `hcl:"limits,block"`
	Drift        *driftBlock          `hcl:"drift,block"`
	Webhook      *webhookBlock        `hcl:"webhook,block"`
	API          *apiBlock            `hcl:"api,block"`
	NBD          *nbdBlock            `hcl:"nbd,block"`
	Metrics      *metricsBlock        `hcl:"metrics,block"`
	CommitStatus *commitStatusBlock   `hcl:"commit_status,block"`
	Notify       []*notifyBlock       `hcl:"notify,block"`
	Principals   []*apiPrincipalBlock `hcl:"principal,block"`
}

// trustBlock says which commits are served; see source.Trust, whose defaults hold.
// What is one of a few words is kept with its place in the file, for checkTrust.
type trustBlock struct {
	// Verify is "none", "tip" or "every": which commits must be signed.
	Verify *hcl.Attribute `hcl:"verify,optional"`
	// AllowedSigners is a file of SSH keys, as ssh-keygen(1) describes under
	// ALLOWED SIGNERS. OpenPGPKeys are files of armored or binary public keys.
	AllowedSigners string   `hcl:"allowed_signers,optional"`
	OpenPGPKeys    []string `hcl:"openpgp_keys,optional"`
	// Rewind is "refuse" or "accept": what to do about a tip that does not descend
	// from the newest commit that was trusted.
	Rewind *hcl.Attribute `hcl:"rewind,optional"`
	// Anchor is the full hash of the commit that counts as trusted while none was.
	Anchor *hcl.Attribute `hcl:"anchor,optional"`

	words map[string]string // values of those attributes, by name
}

// webhookBlock is the listener that a forge tells about pushes.
type webhookBlock struct {
	Listen string `hcl:"listen"` // "ADDRESS:PORT"
	// SecretFile holds the secret shared with the forge, one line.
	SecretFile string `hcl:"secret_file"`
	TLSCert    string `hcl:"tls_cert,optional"` // both or neither
	TLSKey     string `hcl:"tls_key,optional"`

	At       hcl.Range `hcl:",def_range"`
	ListenAt hcl.Range `hcl:"listen,attr_value_range"`
}

// apiBlock is the API over TCP. It needs TLS, and client certificates, tokens or both.
type apiBlock struct {
	Listen   string `hcl:"listen"`
	TLSCert  string `hcl:"tls_cert"`
	TLSKey   string `hcl:"tls_key"`
	ClientCA string `hcl:"client_ca,optional"` // PEM; who signs client certificates

	At       hcl.Range `hcl:",def_range"`
	ListenAt hcl.Range `hcl:"listen,attr_value_range"`
}

// apiPrincipalBlock is somebody who may use the API over TCP, or a user or group of
// this machine on the unix socket.
type apiPrincipalBlock struct {
	Name string `hcl:"name,label"`
	Role string `hcl:"role"` // "viewer", "operator" or "admin"
	// One of these says who it is.
	TokenFile   string `hcl:"token_file,optional"`  // holds a bearer token, one line
	Certificate string `hcl:"certificate,optional"` // common name or URI of a client certificate
	User        string `hcl:"user,optional"`        // of this machine
	Group       string `hcl:"group,optional"`

	At     hcl.Range `hcl:",def_range"`
	RoleAt hcl.Range `hcl:"role,attr_value_range"`
}

// nbdBlock is what the repo cannot say of the NBD server. With a certificate it offers
// TLS; exports say whether they require it.
type nbdBlock struct {
	TLSCert  string `hcl:"tls_cert,optional"` // both or neither
	TLSKey   string `hcl:"tls_key,optional"`
	ClientCA string `hcl:"client_ca,optional"` // PEM; who speaks TLS then needs a certificate that it signed
	// Socket is the path of the Unix socket; "" for none. Default: nbd.sock in the state
	// directory.
	Socket *string         `hcl:"socket,optional"`
	Limits *nbdLimitsBlock `hcl:"limits,block"`

	At hcl.Range `hcl:",def_range"`
}

// metricsBlock is a plain HTTP listener that answers /metrics alone.
type metricsBlock struct {
	Listen   string    `hcl:"listen"` // "ADDRESS:PORT"
	ListenAt hcl.Range `hcl:"listen,attr_value_range"`
}

// commitStatusBlock tells a forge what became of its commits.
type commitStatusBlock struct {
	Forge     string `hcl:"forge"`            // "github", "gitea", "forgejo" or "gitlab"
	URL       string `hcl:"url,optional"`     // of the forge's API; default: the public one
	Project   string `hcl:"project"`          // "owner/name"
	TokenFile string `hcl:"token_file"`       //
	Context   string `hcl:"context,optional"` // default "dlreconcile/SERVER", "dlreconcile" without --server

	At hcl.Range `hcl:",def_range"`
}

// notifyBlock posts events to a URL.
type notifyBlock struct {
	Name       string   `hcl:"name,label"`
	URL        string   `hcl:"url"`
	SecretFile string   `hcl:"secret_file,optional"` // signs the body with HMAC-SHA256
	Events     []string `hcl:"events,optional"`      // kinds, "*" at the end of one matches the rest; default: all of the engine's

	At hcl.Range `hcl:",def_range"`
}

// parseBlocks reads the blocks out of what is left of daemon.hcl after its attributes.
func parseBlocks(body hcl.Body) (daemonBlocks, hcl.Diagnostics) {
	var b daemonBlocks
	diags := gohcl.DecodeBody(body, nil, &b)
	if b.Trust != nil {
		diags = append(diags, b.Trust.check()...)
	}
	if b.Limits != nil {
		diags = append(diags, b.Limits.check()...)
	}
	if b.NBD != nil && b.NBD.Limits != nil {
		diags = append(diags, b.NBD.Limits.check()...)
	}
	if b.Drift != nil {
		diags = append(diags, b.Drift.check()...)
	}
	if !diags.HasErrors() {
		diags = append(diags, b.checkAccess()...)
		diags = append(diags, b.checkNotify()...)
	}
	return b, diags
}

func blockHeaders() []hcl.BlockHeaderSchema {
	s, _ := gohcl.ImpliedBodySchema(daemonBlocks{})
	return s.Blocks
}
