package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Forge is a kind of forge.
type Forge string

// Forges. Gitea and Forgejo have the same API.
const (
	GitHub  Forge = "github"
	Gitea   Forge = "gitea"
	Forgejo Forge = "forgejo"
	GitLab  Forge = "gitlab"
)

// publicAPI is where the public forge of a kind has its API, below which paths begin;
// "" when there is none.
func (f Forge) publicAPI() string {
	switch f {
	case GitHub:
		return "https://api.github.com"
	case GitLab:
		return "https://gitlab.com/api/v4"
	}
	return ""
}

// State is what a forge shows beside a commit.
type State string

const (
	StatePending State = "pending"
	StateSuccess State = "success"
	StateFailure State = "failure"
)

// mostDescription bounds a description, in characters: GitHub takes 140, the others
// more.
const mostDescription = 140

// CommitConfig says which forge is told what became of commits.
type CommitConfig struct {
	Forge   Forge
	URL     string // of the API, such as "https://git.example/api/v1"; "": the public one
	Project string // "owner/name"
	Context string // tells daemons that follow the same repo apart
	Token   func() ([]byte, error)
	// File keeps what the forge was told last, so that a restart does not repeat it;
	// "": nothing does. Its loss costs a repetition.
	File string
	Log  *slog.Logger // nil: silent
}

// CommitStatus tells a forge what became of commits: the newest state of each. Make one
// with NewCommitStatus.
type CommitStatus struct {
	cfg    CommitConfig
	base   string
	client *http.Client
	box    *outbox

	mu   sync.Mutex // guards the fields below
	said map[string]status
	seen []string // revisions in said, the oldest first

	sent []status // what was taken, the oldest first; only what sends touches it
}

// status is what is said of one commit.
type status struct {
	revision    string
	state       State
	description string
}

// mostCommits bounds the commits that wait, and those of which is remembered what was
// said.
const mostCommits = 64

// mostRefusals is how often a forge refuses a status before it is given up, which takes
// some 20 minutes: a forge may know a commit later than whoever fetched it.
const mostRefusals = 12

// NewCommitStatus checks the settings. Nothing is sent before Run.
func NewCommitStatus(cfg CommitConfig) (*CommitStatus, error) {
	c := &CommitStatus{cfg: cfg, client: newClient(), said: map[string]status{}}
	base := cfg.URL
	if base == "" {
		base = cfg.Forge.publicAPI()
	}
	switch cfg.Forge {
	case GitHub, Gitea, Forgejo, GitLab:
	default:
		return nil, fmt.Errorf("forge %q: want github, gitea, forgejo or gitlab", cfg.Forge)
	}
	if base == "" {
		return nil, fmt.Errorf("%s has no public API: say where yours is with url, such as \"https://git.example/api/v1\"", cfg.Forge)
	}
	if err := CheckURL(base); err != nil {
		return nil, err
	}
	if owner, name, ok := strings.Cut(cfg.Project, "/"); !ok || owner == "" || name == "" {
		return nil, fmt.Errorf("project %q: want \"owner/name\"", cfg.Project)
	}
	c.base = strings.TrimRight(base, "/")
	c.box = newOutbox(cfg.Log, delivery{most: mostCommits, send: c.send, tries: func(code int) int {
		if refusal(code) {
			return mostRefusals
		}
		return 0
	}})
	for _, s := range remembered(cfg.File, c.target()) {
		c.remember(s)
		c.sent = append(c.sent, s)
	}
	return c, nil
}

// CheckURL says why nothing is sent to a URL; nil when it is. Without TLS a token or a
// signed message could be read on the way, which is only no matter on this machine.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil: // which has all of the text in it
		return errors.New("url: want one such as \"https://git.example/api/v1\"")
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("url %q: want one such as \"https://git.example/api/v1\"", masked(u))
	case u.User != nil:
		return fmt.Errorf("url %q: leave out the user: what proves who asks is in a file", masked(u))
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("url %q: want https: without it anybody on the way could read what is sent", masked(u))
	}
	return nil
}

// masked gives a URL without what may be secret: a password, its query and what follows.
func masked(u *url.URL) string {
	bare := *u
	bare.Fragment, bare.RawFragment = "", ""
	if bare.RawQuery != "" {
		bare.RawQuery = "xxxxx"
	}
	return bare.Redacted()
}

func isLoopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

// put says something of a commit, unless it was said last.
func (c *CommitStatus) put(s status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, known := c.said[s.revision]
	if known && was == s {
		return
	}
	c.remember(s)
	c.box.put(message{key: s.revision, what: "commit status " + string(s.state) + " of " + s.revision[:min(12, len(s.revision))], body: s})
}

// remember keeps what is said of a commit. The caller holds mu, or has c alone.
func (c *CommitStatus) remember(s status) {
	if _, known := c.said[s.revision]; !known {
		c.seen = append(c.seen, s.revision)
		if len(c.seen) > mostCommits {
			delete(c.said, c.seen[0])
			c.seen = c.seen[1:]
		}
	}
	c.said[s.revision] = s
}

// send delivers a status, and keeps that it did.
func (c *CommitStatus) send(ctx context.Context, m message) error {
	s := m.body.(status)
	if err := c.tell(ctx, s); err != nil {
		return err
	}
	c.sent = slices.DeleteFunc(c.sent, func(old status) bool { return old.revision == s.revision })
	c.sent = append(c.sent, s)
	c.sent = c.sent[max(0, len(c.sent)-mostCommits):]
	if err := keep(c.cfg.File, c.target(), c.sent); err != nil {
		c.box.log.Warn("what the forge was told is not kept, and is told again after a restart", "error", err)
	}
	return nil
}

// tell makes the request that a forge's documentation asks for:
//
//	GitHub   https://docs.github.com/rest/commits/statuses#create-a-commit-status
//	Gitea    repoCreateStatus of its /api/swagger; Forgejo is the same
//	GitLab   https://docs.gitlab.com/api/commits/#set-commit-pipeline-status
func (c *CommitStatus) tell(ctx context.Context, s status) error {
	token, err := c.cfg.Token()
	if err != nil {
		return fmt.Errorf("the token: %w", err)
	}
	header := http.Header{"Accept": {"application/json"}}
	body := map[string]string{"state": string(s.state), "description": s.description, "context": c.cfg.Context}
	var path string
	switch c.cfg.Forge {
	case GitLab:
		path = "/projects/" + url.PathEscape(c.cfg.Project) + "/statuses/" + url.PathEscape(s.revision)
		header.Set("PRIVATE-TOKEN", string(token))
		if s.state == StateFailure {
			body["state"] = "failed"
		}
	default:
		owner, name, _ := strings.Cut(c.cfg.Project, "/")
		path = "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name) + "/statuses/" + url.PathEscape(s.revision)
		if c.cfg.Forge == GitHub {
			header.Set("Authorization", "Bearer "+string(token))
			header.Set("Accept", "application/vnd.github+json")
			header.Set("X-GitHub-Api-Version", "2022-11-28")
		} else {
			header.Set("Authorization", "token "+string(token))
		}
	}
	b, err := json.Marshal(body)
	if err != nil {
		return answerError{error: err}
	}
	answer, err := post(ctx, c.client, c.base+path, header, b)
	if err != nil && c.cfg.Forge == GitLab && strings.Contains(answer, "Cannot transition status") {
		return nil // it is in that state already
	}
	return err
}

// Counts says what became of the messages so far.
func (c *CommitStatus) Counts() Counts { return c.box.Counts() }

// describe cuts a description to what forges take.
func describe(format string, args ...any) string {
	text, _, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	r := []rune(strings.TrimSpace(printable(text)))
	if len(r) > mostDescription {
		r = append(r[:mostDescription-1], '…')
	}
	return string(r)
}

// clockOf writes a time for people.
func clockOf(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
