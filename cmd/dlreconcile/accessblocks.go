package main

import (
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/keyfile"
)

// leastToken is how many bytes a bearer token has at least: fewer are guessed.
const leastToken = 20

// leastWebhookSecret is how many the secret shared with a forge has.
const leastWebhookSecret = 16

// checkAccess says what is wrong with who may reach the daemon, and how.
func (b *daemonBlocks) checkAccess() hcl.Diagnostics {
	var diags hcl.Diagnostics
	wrong := func(at hcl.Range, summary, detail string) {
		diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &at})
	}
	listen := func(text string, at hcl.Range) {
		if err := checkListen(text); err != nil {
			wrong(at, "Invalid listen", err.Error())
		}
	}
	if w := b.Webhook; w != nil {
		listen(w.Listen, w.ListenAt)
		if (w.TLSCert == "") != (w.TLSKey == "") {
			wrong(w.At, "Half a certificate", "tls_cert and tls_key go together: write both, or neither for plain HTTP behind a proxy.")
		}
	}
	if a := b.API; a != nil {
		listen(a.Listen, a.ListenAt)
		if a.ClientCA == "" && !slices.ContainsFunc(b.Principals, func(p *apiPrincipalBlock) bool { return p.TokenFile != "" }) {
			wrong(a.At, "Nobody could use this API", "It lets in who has a certificate that client_ca signed, or the token of a principal block: write client_ca, or a principal block with token_file.")
		}
	}
	if n := b.NBD; n != nil {
		n.check(wrong)
	}
	if m := b.Metrics; m != nil {
		listen(m.Listen, m.ListenAt)
	}
	seen := map[string]bool{}
	for _, p := range b.Principals {
		if seen[p.Name] {
			wrong(p.At, "Duplicate principal", fmt.Sprintf("There is another principal %q already: the audit log could not tell the two apart.", p.Name))
		}
		seen[p.Name] = true
		b.checkPrincipal(p, wrong)
	}
	return diags
}

func (b *daemonBlocks) checkPrincipal(p *apiPrincipalBlock, wrong func(at hcl.Range, summary, detail string)) {
	if _, err := api.ParseRole(p.Role); err != nil {
		wrong(p.RoleAt, "Invalid role", `It must be "viewer", who may look, "operator", who may apply and roll back too, or "admin", who may also pass rules of the policy.`)
	}
	var said []string
	for _, one := range []struct{ name, value string }{
		{"token_file", p.TokenFile}, {"certificate", p.Certificate}, {"user", p.User}, {"group", p.Group},
	} {
		if one.value != "" {
			said = append(said, one.name)
		}
	}
	if len(said) != 1 {
		wrong(p.At, "Invalid principal", fmt.Sprintf("It says who it is by %s: write one of token_file, certificate, user and group. For somebody with two, write two blocks.", orNothing(said)))
		return
	}
	switch {
	case b.API == nil && (p.TokenFile != "" || p.Certificate != ""):
		wrong(p.At, "A principal without an API", fmt.Sprintf("%s is for the API over TCP, and there is no api block.", said[0]))
	case p.Certificate != "" && b.API.ClientCA == "":
		wrong(p.At, "A certificate that nobody can check", "Write client_ca in the api block: the file of who signs the certificates of clients.")
	}
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, " and ")
}

// checkListen reads ADDRESS:PORT, where the address may be left out.
func checkListen(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err == nil {
		if n, bad := strconv.ParseUint(port, 10, 16); bad != nil || n == 0 {
			err = fmt.Errorf("%q is no port", port)
		} else if host != "" && net.ParseIP(host) == nil {
			err = fmt.Errorf("%q is no IP address", host)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: it must be ADDRESS:PORT, such as 10.0.0.1:8443, or :8443 for every address of this machine", err)
	}
	return nil
}

// principals gives who has which role. What is odd about one is told in the log: the
// others are to be let in.
func (b *daemonBlocks) principals(log *slog.Logger) *api.Principals {
	var list []api.Principal
	for _, p := range b.Principals {
		odd := func(err error) { log.Error("a principal cannot be let in", "principal", p.Name, "error", err) }
		role, err := api.ParseRole(p.Role)
		if err != nil {
			odd(err)
			continue
		}
		one := api.Principal{Name: p.Name, Role: role, Certificate: p.Certificate, User: p.User, Group: p.Group}
		if p.TokenFile != "" {
			one.Token = keyfile.Secret(p.TokenFile, leastToken).Told(odd)
			_, _ = one.Token.Get() // told now, not when he needs it
		}
		if p.User != "" {
			if _, err := user.Lookup(p.User); err != nil && !number(p.User) {
				odd(err)
			}
		}
		if p.Group != "" {
			if _, err := user.LookupGroup(p.Group); err != nil && !number(p.Group) {
				odd(err)
			}
		}
		list = append(list, one)
	}
	return api.NewPrincipals(list)
}

func number(text string) bool {
	_, err := strconv.ParseUint(text, 10, 32)
	return err == nil
}
