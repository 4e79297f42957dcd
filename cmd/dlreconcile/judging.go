package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
)

// judging gives what besides the repo may decide whether a commit is right or trusted,
// as engine.Config.Settings wants it. A file that cannot be read counts as none.
func (s *settings) judging() []byte {
	trust := s.blocks.Trust.trust()
	out := struct {
		Program string
		Path    string
		Trust   any
		TLS     bool              // exports may require it
		Files   map[string][]byte // digest by path
	}{buildVersion().String(), s.Path, trust, s.blocks.NBD != nil && s.blocks.NBD.TLSCert != "", map[string][]byte{}}
	for _, path := range append([]string{s.AgeIdentity, trust.AllowedSigners}, trust.OpenPGPKeys...) {
		f, err := os.Open(path)
		if path == "" || err != nil {
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, io.LimitReader(f, 16<<20)); err == nil {
			out.Files[path] = h.Sum(nil)
		}
		f.Close()
	}
	var b bytes.Buffer
	if json.NewEncoder(&b).Encode(out) != nil { // there is nothing in it that JSON lacks
		return nil
	}
	return b.Bytes()
}
