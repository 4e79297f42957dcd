package image

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func machineFiles(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func TestSuiteSources(t *testing.T) {
	machine := machineFiles(map[string]string{
		"etc/apt/sources.list": `
# deb http://commented.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib # the mirror
deb-src http://mirror.example/debian bookworm main
deb [arch=arm64,i386] http://ports.example/debian bookworm main
deb [ signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no ] http://sec.example/debian-security bookworm-security main
deb http://mirror.example/debian bookworm-backports main
deb http://mirror.example/debian trixie main
debian nonsense bookworm main
deb [broken http://x bookworm main
deb http://flat.example/ ./
`,
		"etc/apt/sources.list.d/docker.list":   "deb [signed-by=/etc/apt/keyrings/docker.asc] https://download.docker.com/linux/debian bookworm stable\n",
		"etc/apt/sources.list.d/vendor.list":   "deb [signed-by=/usr/share/keyrings/vendor.gpg] https://apt.vendor.example/debian bookworm main\n",
		"etc/apt/sources.list.d/keyed.sources": "Types: deb\nURIs: https://keyed.example/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINB\n",
		"etc/apt/sources.list.d/known.list":    "deb http://known.example/somewhere bookworm main\n",
		"etc/apt/sources.list.d/liar.list":     "deb http://liar.example/debian bookworm main\n",
		"etc/apt/sources.list.d/debian.sources": `Types: deb deb-src
# with a comment
URIs: http://deb.example/debian
 http://deb2.example/debian/
Suites: bookworm bookworm-updates
Components: main
 non-free
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://src.example/debian
Suites: bookworm
Components: main
`,
		"etc/apt/sources.list.d/saved.list.save":                             "deb http://saved.example/debian bookworm main\n",
		"var/lib/apt/lists/known.example_somewhere_dists_bookworm_InRelease": "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nSuite: stable\n",
		"var/lib/apt/lists/liar.example_debian_dists_bookworm_Release":       "Origin: Somebody Else\n",
	})
	all, err := readAptSources(machine)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range suiteSources(all, "bookworm", "amd64", []string{"main", "contrib"}, releaseOrigin(machine)) {
		got = append(got, s.String())
	}
	slices.Sort(got)
	want := []string{
		"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] http://sec.example/debian-security bookworm-security main contrib",
		"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.example/debian bookworm main contrib",
		"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.example/debian bookworm-updates main contrib",
		"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb2.example/debian/ bookworm main contrib",
		"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb2.example/debian/ bookworm-updates main contrib",
		"deb http://known.example/somewhere bookworm main contrib",
		"deb http://mirror.example/debian bookworm main contrib",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	arm := suiteSources(all, "bookworm", "arm64", []string{"main"}, releaseOrigin(machine))
	if !slices.ContainsFunc(arm, func(s source) bool { return s.uri == "http://ports.example/debian" }) {
		t.Error("the source for arm64 is missing")
	}
}

func FuzzAptSources(f *testing.F) {
	f.Add("deb [signed-by=/k.gpg] http://a/debian bookworm main\n")
	f.Add("Types: deb\nURIs: http://a/debian\nSuites: bookworm\nComponents: main\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range append(parseOneLine(text), parseDeb822(text)...) {
			if len(s.uris) == 0 || len(s.suites) == 0 || len(s.components) == 0 {
				t.Fatalf("%+v", s)
			}
			for _, o := range suiteSources([]aptSource{s}, "bookworm", "amd64", []string{"main"}, func(string, string) string { return "Debian" }) {
				if strings.ContainsAny(o.String(), "\n\r") {
					t.Fatalf("%q", o)
				}
			}
		}
	})
}

func TestAptProxies(t *testing.T) {
	dump := "Acquire \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://proxy.example:3142\";\n" +
		"Acquire::http::Proxy::deb.example \"DIRECT\";\nAcquire::https::Proxy \"DIRECT\";\n"
	if diff := cmp.Diff([]string{"http_proxy=http://proxy.example:3142"}, aptProxies(dump)); diff != "" {
		t.Error(diff)
	}
}

// TestExplainApt has what apt 2.6 printed.
func TestExplainApt(t *testing.T) {
	tests := []struct {
		attr, want string
		tail       []string
	}{
		{"debootstrap.packages", "Unable to locate package no-such-package", []string{
			"Building dependency tree...", "E: Unable to locate package no-such-package",
			"E: setup failed: E: apt-get … failed", "I: main() received signal PIPE: waiting for setup...", "E: mmdebstrap failed to run"}},
		{"debootstrap.packages", "Version '9.9' for 'zstd' was not found", []string{"E: Version '9.9' for 'zstd' was not found", "E: mmdebstrap failed to run"}},
		{"debootstrap.suite", "bookwurm Release' does not have a Release file", []string{
			"  404  Not Found [IP: 192.0.2.1 80]", "E: The repository 'http://deb.debian.org/debian bookwurm Release' does not have a Release file."}},
		{"debootstrap.packages", "a : Depends: b but it is not installable", []string{
			"The following packages have unmet dependencies:", "a : Depends: b but it is not installable", "E: Unable to correct problems, you have held broken packages."}},
		{"", "", []string{"E: Failed to fetch http://192.0.2.1/debian/dists/bookworm/InRelease  Could not connect", "E: mmdebstrap failed to run"}},
	}
	for _, tt := range tests {
		err := explainApt(&failure{program: "mmdebstrap", err: errTest, tail: tt.tail})
		m, ok := err.(*mistake)
		switch {
		case tt.attr == "" && ok:
			t.Errorf("%q was blamed on the author: %v", tt.tail, m)
		case tt.attr != "" && (!ok || m.attr != tt.attr || !strings.Contains(m.detail, tt.want)):
			t.Errorf("%q: %v", tt.tail, err)
		}
	}
}

func TestCheckPackages(t *testing.T) {
	if err := checkPackages([]string{"zstd", "libstdc++6", "gcc-12:amd64", "zstd=1.5.4+dfsg2-5", "linux-image-amd64/bookworm-backports"}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "-oDebug=1", "./local.deb", "/etc/passwd", "?essential", "~n.*", "a,b", "a b", "Zstd"} {
		if checkPackages([]string{bad}) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
