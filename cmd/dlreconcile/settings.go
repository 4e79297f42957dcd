package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// settings are the daemon's own: never the repo's. A flag beats the environment,
// that beats daemon.hcl, and that the default.
type settings struct {
	Config    string // daemon.hcl
	Repo      string
	Ref       string
	Path      string
	TokenFile string
	// AgeIdentity is the file of identities that secrets of the repo are encrypted for;
	// "": none.
	AgeIdentity string
	State       string
	Server      string
	Socket      string
	API         apiSettings
	Poll        time.Duration
	Vars        map[string]string
	Env         string // names env/NAME.hcl of the repo

	blocks daemonBlocks // of daemon.hcl
	source []byte       // daemon.hcl as it was read

	// repoGiven is false when Repo is only the current folder, for want of better.
	repoGiven bool
	// envFlag says that Env comes from the command line.
	envFlag bool
	// varFlags are the values of --var as they were written.
	varFlags []string
}

const (
	defaultConfig = "/etc/dlreconcile/daemon.hcl"
	envPrefix     = "DLRECONCILE_"
	envVarPrefix  = envPrefix + "VAR_"
)

func (s *settings) flags(f *pflag.FlagSet) {
	f.StringVar(&s.Config, "config", defaultConfig, "`FILE` with the daemon's own settings")
	f.StringVar(&s.Repo, "repo", ".", "Git repo: a local `PATH` or an https:// URL")
	f.StringVar(&s.Ref, "ref", "", "`BRANCH`, tag, or semver:RANGE of tags to follow (default: what the repo's HEAD names)")
	f.StringVar(&s.Path, "path", "", "`FOLDER` of the repo that holds the desired state (default: its top)")
	f.StringVar(&s.TokenFile, "token-file", "", "`FILE` with the credentials for an https:// repo: a token, or user:password")
	f.StringVar(&s.AgeIdentity, "age-identity", "", "`FILE` with the identity that secrets of the repo are encrypted for, as age-keygen writes it, or an SSH private key")
	f.StringVar(&s.State, "state", "/var/lib/dlreconcile", "state `DIRECTORY`")
	f.StringVar(&s.Server, "server", "", "`NAME` of the server block that is this machine's own (default: the only one)")
	f.StringVar(&s.Socket, "socket", "", "unix socket `PATH` of the daemon (default: api.sock in the state directory)")
	f.StringVar(&s.API.URL, "api", "", "`URL` of a daemon on another machine, https://HOST:PORT, to ask instead of the one here")
	f.StringVar(&s.API.TokenFile, "api-token-file", "", "`FILE` with the token to show to --api")
	f.StringVar(&s.API.Cert, "api-cert", "", "`FILE` with the certificate to show to --api")
	f.StringVar(&s.API.Key, "api-key", "", "`FILE` with the key of --api-cert")
	f.StringVar(&s.API.CA, "api-ca", "", "`FILE` with the authority that signed the certificate of --api (default: the system's)")
	f.DurationVar(&s.Poll, "poll", 30*time.Second, "how often the daemon looks for new commits, as a `DURATION` such as 30s or 5m")
	f.StringVar(&s.Env, "env", "", "`NAME` of the set of values of the repo's variables that counts: env/NAME.hcl beside the configuration")
	f.StringArrayVar(&s.varFlags, "var", nil, "value of a variable of the repo, as `NAME=VALUE`; may be given again for another one")
}

// texts lists the settings that are text, by the name of their flag.
func (s *settings) texts() map[string]*string {
	return map[string]*string{
		"repo": &s.Repo, "ref": &s.Ref, "path": &s.Path, "token-file": &s.TokenFile, "age-identity": &s.AgeIdentity,
		"state": &s.State, "server": &s.Server, "socket": &s.Socket, "env": &s.Env,
		"api": &s.API.URL, "api-token-file": &s.API.TokenFile, "api-cert": &s.API.Cert, "api-key": &s.API.Key, "api-ca": &s.API.CA,
	}
}

// attributeName is the line of daemon.hcl for a flag. There api is a block: what this
// machine's daemon offers, not what its commands ask.
func attributeName(flag string) string {
	if flag == "api" {
		return "api_url"
	}
	return strings.ReplaceAll(flag, "-", "_")
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// resolve fills in what no flag gave: from the environment, then daemon.hcl.
func (s *settings) resolve(f *pflag.FlagSet, environ []string) error {
	env := map[string]string{}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		// Nothing is the same as not set, but for a variable it is a value.
		if ok && strings.HasPrefix(name, envPrefix) && (value != "" || strings.HasPrefix(name, envVarPrefix)) {
			env[name] = value
		}
	}
	named := f.Changed("config")
	if v, ok := env[envName("config")]; ok && !named {
		s.Config, named = v, true
	}
	src, err := os.ReadFile(s.Config)
	if err != nil && (named || !errors.Is(err, os.ErrNotExist)) {
		return fmt.Errorf("settings: %w", err)
	}
	file, diags := parseDaemonFile(s.Config, src)
	if diags.HasErrors() {
		return diags
	}
	for name, to := range s.texts() {
		if f.Changed(name) {
			continue
		}
		if v, ok := env[envName(name)]; ok {
			*to = v
		} else if v := file.texts[name]; v != nil {
			*to = *v
		}
	}
	s.blocks, s.source = file.daemonBlocks, src
	if err := s.resolveCredentials(environ, file); err != nil {
		return err
	}
	s.envFlag = f.Changed("env")
	s.repoGiven = f.Changed("repo") || env[envName("repo")] != "" || file.texts["repo"] != nil
	if err := s.resolvePoll(f, env, file); err != nil {
		return err
	}
	if err := s.resolveVars(env, file); err != nil {
		return err
	}
	if s.Socket == "" {
		s.Socket = filepath.Join(s.State, "api.sock")
	}
	return nil
}

// leastPoll keeps a typing mistake from hammering a Git server.
const leastPoll = time.Second

func (s *settings) resolvePoll(f *pflag.FlagSet, env map[string]string, file *daemonFile) error {
	if !f.Changed("poll") {
		if v, ok := env[envName("poll")]; ok {
			d, err := time.ParseDuration(v)
			if err != nil {
				return &coded{exitUsage, fmt.Errorf("%s=%s: want a duration such as 30s or 5m", envName("poll"), v)}
			}
			s.Poll = d
		} else if file.poll != 0 {
			s.Poll = file.poll
		}
	}
	if s.Poll < leastPoll {
		return &coded{exitUsage, fmt.Errorf("poll %s: want at least %s", s.Poll, leastPoll)}
	}
	return nil
}

func (s *settings) resolveVars(env map[string]string, file *daemonFile) error {
	s.Vars = maps.Clone(file.vars)
	if s.Vars == nil {
		s.Vars = map[string]string{}
	}
	for name, value := range env {
		if v, ok := strings.CutPrefix(name, envVarPrefix); ok && v != "" {
			s.Vars[v] = value
		}
	}
	for _, given := range s.varFlags {
		name, value, ok := strings.Cut(given, "=")
		if !ok || name == "" {
			return &coded{exitUsage, fmt.Errorf("--var %q: want NAME=VALUE", given)}
		}
		s.Vars[name] = value
	}
	return nil
}

// remote reports whether the repo is a URL rather than a folder here.
func (s *settings) remote() bool {
	return strings.Contains(s.Repo, "://") && !strings.HasPrefix(s.Repo, "file://")
}

// enclose takes the repo around the current folder when none is named, as git
// does. Not for the daemon: one that is started in a wrong folder must not follow
// whatever repo happens to be around it.
func (s *settings) enclose() {
	if s.repoGiven {
		return
	}
	here, err := os.Getwd()
	if err != nil {
		return
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			rel, err := filepath.Rel(dir, here)
			if err == nil && rel != "." {
				s.Repo = dir
				if s.Path == "" {
					s.Path = filepath.ToSlash(rel)
				}
			}
			return
		}
		if dir == filepath.Dir(dir) {
			return
		}
	}
}
