package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine/api"
)

const (
	fiftyGenerations = 50
	fiftySize        = 16 << 20 // of a root
)

// fiftyDisk is one machine's disk of one export, and what it must read like.
type fiftyDisk struct {
	machine *fiftyMachine
	export  string // "perboot" or "perhost"
	base    string // digest, in hex
	want    []byte
}

// fiftyMachine is a host, seen from its network.
type fiftyMachine struct {
	*lab.ClientNS
	name  string
	boots int
	disks map[string]*fiftyDisk
}

func (m *fiftyMachine) instance(n int) string {
	return fmt.Sprintf("fb34709d-1dc9-49f4-%s-%012x", map[string]string{"one": "8001", "two": "8002"}[m.name], n)
}

// fiftySite is the site of TestFiftyGenerations.
type fiftySite struct {
	*nbdSite
	dir    string
	chance *rand.Rand
	t      *testing.T
	daemon *exec.Cmd
}

// newFiftySite makes one whose daemon is not started, and collects with each commit.
func newFiftySite(t *testing.T, name string) *fiftySite {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "dlreconcile")
	build := exec.Command("go", "build", "-tags", "failpoints", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	t.Setenv("DLRECONCILE_TEST_HURRY", "machines")
	s := &fiftySite{nbdSite: newNBDSite(t, name), t: t, dir: t.TempDir(), chance: rand.New(rand.NewPCG(50, 2))}
	s.bin, s.logged = bin, filepath.Join(s.dir, "daemon.log")
	s.settings()
	t.Cleanup(func() {
		s.end()
		if t.Failed() {
			log, _ := os.ReadFile(s.logged)
			t.Logf("the daemon's log:\n%s", tail(log, 4000))
		}
	})
	return s
}

// run starts the daemon.
func (s *fiftySite) run() {
	s.t.Helper()
	log, err := os.OpenFile(s.logged, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.daemon = s.command("serve")
	s.daemon.Stdout, s.daemon.Stderr = log, log
	if err := s.daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the daemon with kill -9.
func (s *fiftySite) kill() {
	s.t.Helper()
	if err := s.daemon.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	_ = s.daemon.Wait() // it says that it was killed
	s.daemon = nil
}

// end ends the daemon in good order, if it runs.
func (s *fiftySite) end() {
	if s.daemon == nil {
		return
	}
	err := s.daemon.Process.Signal(syscall.SIGTERM)
	if err = errors.Join(err, s.daemon.Wait()); err != nil {
		s.t.Errorf("the daemon ends with %v", err)
	}
	s.daemon = nil
}

// files are the repo of a generation. All have another image, but for those at the end,
// of which nobody has a disk.
func (s *fiftySite) files(image, title int, disks bool) map[string]string {
	files, err := loopbackSite(s.ports, image)
	if err != nil {
		s.t.Fatal(err)
	}
	noise := make([]byte, 256<<10)
	_, _ = rand.NewChaCha8([32]byte{byte(image), 50}).Read(noise) // never fails
	if files["root.tar"], err = addToTar(files["root.tar"], "etc/noise", noise); err != nil {
		s.t.Fatal(err)
	}
	site := strings.NewReplacer(
		`address = "127.0.0.1"`, `address = "`+liveServer+`"`+"\n  interface = \""+lab.Bridge+`"`,
		"127.0.0.0/8", "10.77.0.0/16", "127.0.0.100-127.0.0.199", "10.77.0.100-10.77.0.199",
		`mode  = "copy-on-write"`, `mode  = "read-only"`,
		"  root  = export.nbd.small\n", fmt.Sprintf("  root  = export.nbd.small\n  title = \"number %03d\"\n", title),
	).Replace(files["site.hcl"])
	if disks {
		site += `
export "nbd" "perboot" {
  image = image.small
  mode  = "copy-on-write"
  keep  = "boot"
}

export "nbd" "perhost" {
  image = image.small
  mode  = "copy-on-write"
  keep  = "host"
}

host "one" {
  mac     = "52:54:00:00:00:31"
  address = "10.77.0.31"
}

host "two" {
  mac     = "52:54:00:00:00:32"
  address = "10.77.0.32"
}
`
	}
	files["site.hcl"] = site
	return files
}

// addToTar adds a file to an archive.
func addToTar(archive, name string, content []byte) (string, error) {
	var out bytes.Buffer
	w, r := tar.NewWriter(&out), tar.NewReader(strings.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = w.WriteHeader(h)
		}
		if err == nil {
			_, err = io.Copy(w, r)
		}
		if err != nil {
			return "", err
		}
	}
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	return out.String(), err
}

// sealed gives the image that is served: the digest of its root, and its bytes, both as
// foreign clients find them.
func (s *fiftySite) sealed() (hex string, content []byte) {
	s.t.Helper()
	uri := func(name string) string {
		return "nbd+unix:///" + name + "?socket=" + filepath.Join(s.state, "nbd.sock")
	}
	path := filepath.Join(s.dir, "sealed")
	if out, err := nbdRun(s.t, exec.CommandContext(s.t.Context(), "nbdcopy", uri("small"), path)); err != nil {
		s.t.Fatalf("nbdcopy: %v: %s", err, out)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	digest, err := fileDigest(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(content) != fiftySize {
		s.t.Fatalf("the image has %d bytes", len(content))
	}
	return strings.TrimPrefix(digest, "sha256:"), content
}

func (d *fiftyDisk) name(boot int) string {
	return d.export + "@" + d.base[:12] + "+" + d.machine.instance(boot)
}

// same has nbdcopy read all of a disk, and holds every byte against what it must be.
func (s *fiftySite) same(d *fiftyDisk, when string) {
	s.t.Helper()
	cmd := d.machine.Command(s.t.Context(), "nbdcopy", clearURI+d.name(d.machine.boots), "-")
	errs := &strings.Builder{}
	cmd.Stderr = errs
	got, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %s of %s: nbdcopy: %v: %s", when, d.export, d.machine.name, err, errs)
	}
	if bytes.Equal(got, d.want) {
		return
	}
	at := 0
	for at < min(len(got), len(d.want)) && got[at] == d.want[at] {
		at++
	}
	s.t.Fatalf("%s: %s of %s has at %d %q, want %q", when, d.export, d.machine.name, at, got[at:min(at+32, len(got))], d.want[at:at+32])
}

// write has qemu-io write what says whose it is, in blocks and in parts of blocks, and
// zero and discard; at places that the other machine and other generations write too.
func (s *fiftySite) write(d *fiftyDisk, generation int) {
	s.t.Helper()
	mark := fmt.Sprintf("<%s %s %d.%d>", d.machine.name, d.export, generation, d.machine.boots)
	const longest = 128 << 10
	pattern := bytes.Repeat([]byte(mark), longest/len(mark)+1)
	path := filepath.Join(s.dir, "pattern")
	if err := os.WriteFile(path, pattern[:longest], 0o600); err != nil {
		s.t.Fatal(err)
	}
	args := []string{"--image-opts", "driver=nbd,server.type=inet,server.host=" + liveServer + ",server.port=10809,export=" + d.name(d.machine.boots)}
	for range 6 {
		n := 512 * (1 + s.chance.IntN(longest/512))
		off := 512 * s.chance.IntN((fiftySize-n)/512)
		switch s.chance.IntN(6) {
		case 0:
			args = append(args, "-c", fmt.Sprintf("write -z %d %d", off, n))
			clear(d.want[off : off+n])
		default:
			args = append(args, "-c", fmt.Sprintf("write -s %s %d %d", path, off, n))
			copy(d.want[off:off+n], pattern)
		}
	}
	args = append(args, "-c", "flush")
	if out, err := nbdRun(s.t, d.machine.Command(s.t.Context(), "qemu-io", args...)); err != nil || strings.Contains(out, "failed") {
		s.t.Fatalf("%s of %s: qemu-io: %v: %s", d.export, d.machine.name, err, out)
	}
}

// boot has a machine boot once more, with what its exports promise of its disks.
func (s *fiftySite) boot(m *fiftyMachine, generation int, hex string, image []byte) {
	s.t.Helper()
	m.boots++
	for _, export := range []string{"perboot", "perhost"} {
		d := m.disks[export]
		if d == nil || d.base != hex || export == "perboot" {
			d = &fiftyDisk{machine: m, export: export, base: hex, want: bytes.Clone(image)}
			m.disks[export] = d
		}
		s.same(d, fmt.Sprintf("generation %d, boot %d", generation, m.boots))
		s.write(d, generation)
	}
}

// again reads all disks of all machines.
func (s *fiftySite) again(machines []*fiftyMachine, when string) {
	s.t.Helper()
	for _, m := range machines {
		for _, d := range m.disks {
			s.same(d, when)
		}
	}
}

// late: a boot that is over gets nothing.
func (s *fiftySite) late(m *fiftyMachine, boot int) {
	s.t.Helper()
	for _, d := range m.disks {
		cmd := m.Command(s.t.Context(), "nbdcopy", clearURI+d.name(boot), "/dev/null")
		if out, err := nbdRun(s.t, cmd); err == nil || !strings.Contains(out, "No such file or directory") {
			s.t.Errorf("boot %d of %s, of long ago, got %s: %v: %s", boot, m.name, d.export, err, out)
		}
	}
}

// below lists the files in a folder of the state directory, with their sizes.
func (s *fiftySite) below(folder string) map[string]int64 {
	s.t.Helper()
	list := map[string]int64{}
	err := filepath.WalkDir(filepath.Join(s.state, folder), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.state, path)
		list[rel] = st.Size()
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	return list
}

// folders counts those in a folder of the state directory.
func (s *fiftySite) folders(in string) (n int) {
	s.t.Helper()
	err := filepath.WalkDir(filepath.Join(s.state, in), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return n - 1 // in itself
}

// sizes gives the sizes of files, in order, and what they are together.
func sizes(files map[string]int64) (list []int64, all int64) {
	for _, n := range files {
		list, all = append(list, n), all+n
	}
	slices.Sort(list)
	return list, all
}

// alone gives the sizes of what the content store has of an image that no machine ever
// wrote over.
func (s *fiftySite) alone() []int64 {
	s.t.Helper()
	kept := *s.loopback
	defer func() { *s.loopback = kept }()
	s.state = filepath.Join(s.t.TempDir(), "alone")
	s.client = api.NewClient(filepath.Join(s.state, "api.sock"))
	rev := s.commit(s.files(fiftyGenerations, 900, false))
	s.run()
	defer s.end()
	s.synced(rev)
	s.synced(s.commit(s.files(fiftyGenerations, 901, false))) // two generations are kept
	if files := s.below("overlays"); len(files) > 0 {
		s.t.Fatalf("overlays of nobody: %v", files)
	}
	list, _ := sizes(s.below("blobs"))
	return list
}
