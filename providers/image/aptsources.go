package image

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// aptSource is one entry of the machine's package sources that is enabled and
// gives binary packages.
type aptSource struct {
	uris       []string
	suites     []string
	components []string
	options    map[string]string // by the names of one-line entries: "signed-by"
}

// maxAptFile bounds what is read of one file of sources.
const maxAptFile = 1 << 20

// readAptSources reads /etc/apt of a machine, given its root directory.
func readAptSources(machine fs.FS) ([]aptSource, error) {
	names, err := fs.Glob(machine, "etc/apt/sources.list.d/*")
	if err != nil {
		return nil, err
	}
	var all []aptSource
	for _, name := range append([]string{"etc/apt/sources.list"}, names...) {
		parse := parseOneLine
		switch path.Ext(name) {
		case ".list":
		case ".sources":
			parse = parseDeb822
		default:
			continue // as apt does
		}
		text, err := readSome(machine, name, maxAptFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("package sources of this machine: %w", err)
		}
		all = append(all, parse(text)...)
	}
	return all, nil
}

// readSome reads at most limit bytes of a file.
func readSome(fsys fs.FS, name string, limit int64) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return string(b), err
}

// parseOneLine reads the one-line form of sources.list(5). Lines that are not
// understood are left out, as apt's own warnings are not ours to give.
func parseOneLine(text string) []aptSource {
	var all []aptSource
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || !strings.ContainsAny(rest[:1], " \t[") {
			continue
		}
		s := aptSource{options: map[string]string{}}
		rest = strings.TrimSpace(rest)
		if in, ok := strings.CutPrefix(rest, "["); ok {
			opts, after, ok := strings.Cut(in, "]")
			if !ok {
				continue
			}
			for _, o := range strings.Fields(opts) {
				key, value, _ := strings.Cut(o, "=")
				s.options[strings.ToLower(key)] = value
			}
			rest = after
		}
		f := strings.Fields(rest)
		if len(f) < 3 { // flat repositories have no components, and no suites
			continue
		}
		s.uris, s.suites, s.components = f[:1], f[1:2], f[2:]
		all = append(all, s)
	}
	return all
}

// deb822Options maps the fields that matter to the options of the one-line form.
// "Signed-By" may hold a key instead of a file name.
func deb822Options() map[string]string {
	return map[string]string{
		"signed-by": "signed-by", "architectures": "arch", "trusted": "trusted", "check-valid-until": "check-valid-until",
	}
}

// parseDeb822 reads the paragraphs of a .sources file.
func parseDeb822(text string) []aptSource {
	var all []aptSource
	fields := map[string]string{}
	flush := func() {
		f := fields
		fields = map[string]string{}
		if len(f) == 0 || strings.EqualFold(f["enabled"], "no") || !slices.Contains(strings.Fields(f["types"]), "deb") {
			return
		}
		s := aptSource{
			uris: strings.Fields(f["uris"]), suites: strings.Fields(f["suites"]), components: strings.Fields(f["components"]),
			options: map[string]string{},
		}
		for field, option := range deb822Options() {
			if v := strings.Join(strings.Fields(f[field]), ","); v != "" {
				s.options[option] = v
			}
		}
		if len(s.uris) > 0 && len(s.suites) > 0 && len(s.components) > 0 {
			all = append(all, s)
		}
	}
	last := ""
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxAptFile+1)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
			last = ""
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				fields[last] += " " + strings.TrimSpace(line)
			}
		default:
			key, value, ok := strings.Cut(line, ":")
			if !ok {
				last = ""
				continue
			}
			last = strings.ToLower(strings.TrimSpace(key))
			fields[last] = strings.TrimSpace(value)
		}
	}
	flush()
	return all
}

// distributions are those whose repositories are taken for an image, as their
// Release files and keyrings name them.
func distributions() []string { return []string{"Debian", "Ubuntu", "Devuan", "Raspbian", "Kali"} }

// source is one line of a sources.list.
type source struct {
	options    string // "[signed-by=/usr/share/keyrings/x.gpg] ", or ""
	uri        string
	suite      string
	components []string
}

func (s source) String() string {
	return "deb " + s.options + s.uri + " " + s.suite + " " + strings.Join(s.components, " ")
}

// suiteSources gives those of the machine's sources that serve a suite of the
// distribution itself: the suite, its updates, and its security
// updates. Everybody else's packages stay out of images, whatever this machine
// has installed. origin tells what a repository's Release file says of itself; ""
// means not known.
func suiteSources(all []aptSource, suite, arch string, components []string, origin func(uri, suite string) string) []source {
	var out []source
	for _, s := range all {
		if a := s.options["arch"]; a != "" && !slices.Contains(strings.Split(a, ","), arch) {
			continue
		}
		if !slices.ContainsFunc(s.components, func(c string) bool { return slices.Contains(components, c) }) {
			continue
		}
		for _, uri := range s.uris {
			for _, su := range s.suites {
				if !slices.Contains([]string{suite, suite + "-updates", suite + "-security", suite + "/updates"}, su) ||
					!ofDistribution(s, uri, origin(uri, su)) {
					continue
				}
				one := source{options: bracket(s.options), uri: uri, suite: su, components: components}
				if !slices.ContainsFunc(out, func(o source) bool { return o.String() == one.String() }) {
					out = append(out, one)
				}
			}
		}
	}
	return out
}

// ofDistribution tells a distribution's own repository from one that merely uses
// its suite names. The Release file is the best witness, then the key; without
// either, the last part of the path, which mirrors keep.
func ofDistribution(s aptSource, uri, origin string) bool {
	if origin != "" {
		return slices.ContainsFunc(distributions(), func(d string) bool { return strings.EqualFold(d, origin) })
	}
	if key := s.options["signed-by"]; key != "" {
		base := path.Base(key)
		return path.IsAbs(key) && slices.ContainsFunc(distributions(), func(d string) bool {
			return strings.HasPrefix(base, strings.ToLower(d)+"-archive-")
		})
	}
	last := path.Base(strings.TrimSuffix(uri, "/"))
	return slices.Contains([]string{"debian", "debian-security", "ubuntu", "ubuntu-ports", "devuan", "merged", "raspbian", "kali"}, last)
}

// bracket gives the options of a one-line entry that are kept, with a space after.
func bracket(options map[string]string) string {
	var kept []string
	for _, key := range []string{"signed-by", "trusted", "check-valid-until"} {
		if v := options[key]; v != "" && !strings.ContainsAny(v, " []") {
			kept = append(kept, key+"="+v)
		}
	}
	if len(kept) == 0 {
		return ""
	}
	return "[" + strings.Join(kept, " ") + "] "
}

// releaseOrigin gives a function that looks for the Origin field in the Release
// files that apt has fetched on this machine.
func releaseOrigin(machine fs.FS) func(uri, suite string) string {
	return func(uri, suite string) string {
		_, rest, ok := strings.Cut(uri, "://")
		if !ok {
			return ""
		}
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			rest = rest[at+1:]
		}
		// As apt's URItoFileName: reserved characters by their number, then
		// slashes as underscores.
		quoted := strings.NewReplacer("_", "%5f", "~", "%7e", "^", "%5e", "=", "%3d", "@", "%40").Replace(strings.TrimSuffix(rest, "/"))
		name := strings.ReplaceAll(quoted+"/dists/"+suite+"/", "/", "_")
		for _, file := range []string{"InRelease", "Release"} {
			text, err := readSome(machine, "var/lib/apt/lists/"+name+file, 4096)
			if err != nil {
				continue
			}
			for line := range strings.Lines(text) {
				if v, ok := strings.CutPrefix(line, "Origin:"); ok {
					return strings.TrimSpace(v)
				}
			}
		}
		return ""
	}
}
