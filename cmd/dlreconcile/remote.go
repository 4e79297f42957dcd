package main

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/keyfile"
)

// apiSettings say which daemon on another machine is asked, and how to it this client
// says who it is.
type apiSettings struct {
	URL       string // "": the daemon here
	TokenFile string
	Cert, Key string
	CA        string // "": the system's authorities
}

// here refuses what only works on the state directory of this machine, where another
// machine's daemon is meant.
func (c *cli) here() error {
	if c.settings.API.URL == "" {
		return nil
	}
	return &coded{exitUsage, fmt.Errorf("this works on a state directory, and --api names a daemon elsewhere (%s): run it there, without --api", c.settings.API.URL)}
}

// client makes the client for the daemon elsewhere.
func (a apiSettings) client() (*api.Client, error) {
	r := api.Remote{URL: a.URL, TLS: &tls.Config{}}
	if (a.Cert == "") != (a.Key == "") {
		return nil, &coded{exitUsage, errors.New("--api-cert and --api-key go together")}
	}
	if a.TokenFile != "" {
		token, err := keyfile.Secret(a.TokenFile, 1).Get()
		if err != nil {
			return nil, fmt.Errorf("--api-token-file: %w", err)
		}
		r.Token = string(token)
	}
	if a.Cert != "" {
		pair, err := keyfile.Pair(a.Cert, a.Key).Get()
		if err != nil {
			return nil, fmt.Errorf("--api-cert: %w", err)
		}
		r.TLS.Certificates = []tls.Certificate{*pair}
	}
	if a.CA != "" {
		pool, err := keyfile.Authorities(a.CA).Get()
		if err != nil {
			return nil, fmt.Errorf("--api-ca: %w", err)
		}
		r.TLS.RootCAs = pool
	}
	c, err := api.NewRemoteClient(r)
	if err != nil {
		return nil, &coded{exitUsage, fmt.Errorf("--api: %w", err)}
	}
	return c, nil
}
