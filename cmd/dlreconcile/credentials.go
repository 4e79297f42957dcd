package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/identity"
)

// credentialPrefix stands before the name of a systemd credential, where a setting
// names a file.
const credentialPrefix = "credential:"

// credentialVar is how the names of credentials begin that are values of the repo's
// variables.
const credentialVar = "dlreconcile.var."

// maxCredential bounds a credential that is a value, in bytes: systemd's own limit for
// all credentials of a unit, see systemd.exec(5).
const maxCredential = 1 << 20

// resolveCredentials puts the files of systemd credentials in the place of their names,
// and takes those that are used without being named: the identity, and values of
// variables, which come before those of daemon.hcl and after the environment's.
func (s *settings) resolveCredentials(environ []string, file *daemonFile) error {
	dir := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, "CREDENTIALS_DIRECTORY="); ok {
			dir = v
		}
	}
	for _, p := range append(s.blocks.paths(), &s.TokenFile, &s.AgeIdentity) {
		name, ok := strings.CutPrefix(*p, credentialPrefix)
		switch {
		case !ok:
			continue
		case name == "" || name != filepath.Base(name) || name == "..":
			return fmt.Errorf("%s: want the name of a systemd credential behind the colon", *p)
		case dir == "":
			return fmt.Errorf("%s: systemd gave this process no credentials; write LoadCredential=%s:PATH in the unit", *p, name)
		}
		*p = filepath.Join(dir, name)
	}
	if dir == "" {
		return nil
	}
	if own := filepath.Join(dir, identity.Credential); s.AgeIdentity == "" && exists(own) {
		s.AgeIdentity = own
	}
	return credentialVars(dir, file)
}

// credentialVars reads the values of variables.
func credentialVars(dir string, file *daemonFile) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("systemd credentials: %w", err)
	}
	for _, e := range list {
		name, ok := strings.CutPrefix(e.Name(), credentialVar)
		if !ok || name == "" {
			continue
		}
		value, err := readCredential(filepath.Join(dir, e.Name()))
		if err != nil {
			return fmt.Errorf("systemd credential %s: %w", e.Name(), err)
		}
		if file.vars == nil {
			file.vars = map[string]string{}
		}
		file.vars[name] = value
	}
	return nil
}

// readCredential reads a value; one line end behind it is none of it.
func readCredential(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxCredential {
		return "", fmt.Errorf("it has more than %d bytes", maxCredential)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// paths lists the settings in blocks that name files.
func (b *daemonBlocks) paths() []*string {
	var list []*string
	if t := b.Trust; t != nil {
		list = append(list, &t.AllowedSigners)
		for i := range t.OpenPGPKeys {
			list = append(list, &t.OpenPGPKeys[i])
		}
	}
	if w := b.Webhook; w != nil {
		list = append(list, &w.SecretFile, &w.TLSCert, &w.TLSKey)
	}
	if a := b.API; a != nil {
		list = append(list, &a.TLSCert, &a.TLSKey, &a.ClientCA)
	}
	if n := b.NBD; n != nil {
		list = append(list, &n.TLSCert, &n.TLSKey, &n.ClientCA)
	}
	for _, p := range b.Principals {
		list = append(list, &p.TokenFile)
	}
	if s := b.CommitStatus; s != nil {
		list = append(list, &s.TokenFile)
	}
	for _, n := range b.Notify {
		list = append(list, &n.SecretFile)
	}
	return list
}
