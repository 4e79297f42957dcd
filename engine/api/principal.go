package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"os/user"
	"slices"
	"strconv"

	"github.com/dlreconcile/dlreconcile/engine/keyfile"
)

// Principal is somebody with a role, told apart by one of the fields below Role.
type Principal struct {
	Name string
	Role Role

	Token       *keyfile.Value[[]byte] // that he presents over TCP
	Certificate string                 // common name or URI in his certificate
	User        string                 // of this machine, on the unix socket: a name or a number
	Group       string                 // likewise; a user's own block goes before those of his groups
}

// Principals are everybody with a role that is not the default one. A nil *Principals
// has none.
type Principals struct{ list []Principal }

// NewPrincipals makes Principals of a list, which it keeps.
func NewPrincipals(list []Principal) *Principals { return &Principals{list} }

// tokens reports whether anybody has one.
func (p *Principals) tokens() bool {
	return p != nil && slices.ContainsFunc(p.list, func(one Principal) bool { return one.Token != nil })
}

// ofToken finds who a token belongs to; nil: nobody. Digests are compared, each of
// them and in constant time, so that how long it takes tells nothing. A file that
// cannot be read, or is open to everybody, makes its token nobody's. Of two with the
// same token it is the first one's.
func (p *Principals) ofToken(token string) *Principal {
	if p == nil {
		return nil
	}
	have := sha256.Sum256([]byte(token))
	var found *Principal
	for i := range p.list {
		one := &p.list[i]
		if one.Token == nil {
			continue
		}
		secret, err := one.Token.Get()
		want := sha256.Sum256(secret)
		if subtle.ConstantTimeCompare(have[:], want[:]) == 1 && err == nil && found == nil {
			found = one
		}
	}
	return found
}

// ofCertificate finds who a certificate, which was verified, belongs to; nil: nobody.
func (p *Principals) ofCertificate(c *x509.Certificate) *Principal {
	if p == nil {
		return nil
	}
	for i := range p.list {
		one := &p.list[i]
		if one.Certificate == "" {
			continue
		}
		if one.Certificate == c.Subject.CommonName {
			return one
		}
		for _, u := range c.URIs {
			if one.Certificate == u.String() {
				return one
			}
		}
	}
	return nil
}

// ofUser finds who a user of this machine is: by himself, or else the group of his
// with the highest role; nil: nobody in particular. Groups are those of the user
// database, and the one that the process ran with.
func (p *Principals) ofUser(uid, gid uint32) *Principal {
	if p == nil || !slices.ContainsFunc(p.list, func(one Principal) bool { return one.User != "" || one.Group != "" }) {
		return nil
	}
	id := strconv.FormatUint(uint64(uid), 10)
	groups := []string{strconv.FormatUint(uint64(gid), 10)}
	name := id
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
		if more, err := u.GroupIds(); err == nil {
			groups = append(groups, more...)
		}
	}
	var found *Principal
	for i := range p.list {
		one := &p.list[i]
		if one.User != "" && (one.User == name || one.User == id) {
			return one
		}
		if one.Group == "" || !slices.Contains(groups, groupID(one.Group)) {
			continue
		}
		if found == nil || one.Role > found.Role {
			found = one
		}
	}
	return found
}

// groupID gives the number of a group that is named by name or number.
func groupID(group string) string {
	if g, err := user.LookupGroup(group); err == nil {
		return g.Gid
	}
	return group
}
