package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// The stories in testdata/script are told with the commands of testscript and these:
//
//	dlreconcile ARG…        runs the program, which must succeed (with ! fail)
//	fails CODE ARG…         runs it, and it must exit with CODE
//	commit MESSAGE DIR      commits the files of DIR in the repo; see site
//	lay DIR                 puts them into its work tree only
//	commit-root, lay-root   the same with the site of the demo: commit-root MESSAGE N
//	serve [ARG…]            starts a daemon on loopback, and waits until it answers
//	end, kill9              ends it with SIGTERM, SIGKILL
//	wait-applied            waits until the newest commit is what is served
//	wait-refused            waits until it is refused
//	wait-status TEXT        waits until the text of `status` has TEXT in it
//	dhcp MAC                gets an address, prints it and the boot file
//	http get PATH           prints a file; with ! there must be none
//	tftp get PATH           likewise
//	scrape socket|network   prints the metrics, of the API's socket or of the plain listener
//	forge up|down           starts, ends a forge that takes whatever is posted
//	posted REGEXP           waits until something like it was posted: METHOD PATH BODY
//	json [PATH [WANT]]      stdout must be one JSON document; prints what is at PATH
//	spoil FILE A B TO       writes FILE to TO, with the first A in it replaced by B
//	lose-blob               removes the largest blob of the state directory
//	hunt PATH               looks for planted secrets in a file or folder
//	answers                 prints what the daemon answers to every question
//	let NAME                sets a variable to what stdout holds
//	keys DIR                writes into DIR an authority (ca.crt), a server's certificate
//	                        and key (server.crt, .key), a client's (ivan.crt, .key), and
//	                        those of a foreign authority (foreign.crt, .key)
//	configure FILE          has the commands use FILE, with its ports filled in, as daemon.hcl
//	hangup                  sends SIGHUP to the daemon
//	wait-log REGEXP         waits until a line of the daemon's log matches
//
// In the files that are committed, @dhcp@, @tftp@, @http@, @nbd@, @api@ and @webhook@ stand for ports
// that are free, and @far@ for a day of the week that is neither today nor near. The repo is $WORK/site, the state directory $WORK/state; both are
// told in the environment.
func TestScript(t *testing.T) {
	testscript.Run(t, scriptParams(t, func(name string) bool { return !strings.HasPrefix(name, "image_") }))
}

// TestScriptImages tells the stories in which an image is built.
func TestScriptImages(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "debugfs", "nbdsh")
	testscript.Run(t, scriptParams(t, func(name string) bool { return strings.HasPrefix(name, "image_") }))
}

func scriptParams(t *testing.T, take func(name string) bool) testscript.Params {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "script", "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return !take(filepath.Base(f)) })
	if len(files) == 0 {
		t.Fatal("no stories")
	}
	return testscript.Params{
		Files:              files,
		Setup:              setupStory,
		RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"dlreconcile": cmdProgram, "fails": cmdFails, "json": cmdJSON, "let": cmdLet,
			"commit": told(cmdCommit), "commit-root": told(cmdCommitRoot), "lay": told(cmdLay), "lay-root": told(cmdLayRoot),
			"serve": told(cmdServe), "end": told(cmdEnd), "kill9": told(cmdKill9),
			"wait-applied": told(cmdWaitApplied), "wait-refused": told(cmdWaitRefused), "wait-status": told(cmdWaitStatus),
			"spoil": told(cmdSpoil), "lose-blob": told(cmdLoseBlob), "change-blob": told(cmdChangeBlob), "wait-event": told(cmdWaitEvent), "hunt": told(cmdHunt), "answers": told(cmdAnswers),
			"keys": told(cmdKeys), "configure": told(cmdConfigure), "hangup": told(cmdHangup), "wait-log": told(cmdWaitLog),
			"dhcp": told(cmdDHCP), "http": told(cmdHTTP), "tftp": told(cmdTFTP), "scrape": told(cmdScrape), "forge": told(cmdForge), "posted": told(cmdPosted),
		},
	}
}

// storyKey finds the story of a script.
type storyKey struct{}

func setupStory(env *testscript.Env) error {
	ports, err := freePorts(len(portNames))
	if err != nil {
		return err
	}
	s := &story{
		ports: ports,
		repo:  filepath.Join(env.WorkDir, "site"), state: filepath.Join(env.WorkDir, "state"),
		ctx: env.T().(interface{ Context() context.Context }).Context(),
	}
	env.Values[storyKey{}] = s
	env.Setenv(asCommand, "1")
	if os.Getenv("GORACE") == "" {
		env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command lasts a second more
	}
	env.Setenv("DLRECONCILE_CONFIG", os.DevNull)
	env.Setenv("DLRECONCILE_REPO", s.repo)
	env.Setenv("DLRECONCILE_STATE", s.state)
	env.Setenv("DLRECONCILE_POLL", "1s")
	env.Setenv("PROGRAM", os.Args[0]) // for exec in the background
	env.Setenv("REPO", s.repo)
	env.Setenv("STATE", s.state)
	for i, name := range portNames {
		env.Setenv(strings.ToUpper(name)+"_PORT", strconv.Itoa(ports[i]))
	}
	env.Defer(s.end)
	return nil
}

// told gives a command its story. Its error is the script's failure, or with "!"
// what the script expects.
func told(do func(*story, *testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		switch err := do(ts.Value(storyKey{}).(*story), ts, args); {
		case err != nil && !neg:
			ts.Fatalf("%v", err)
		case err != nil:
			fmt.Fprintln(ts.Stderr(), err)
		case neg:
			ts.Fatalf("it succeeds, and should not")
		}
	}
}

func cmdProgram(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(os.Args[0], args...)
	if (err != nil) != neg {
		ts.Fatalf("dlreconcile %s: %v", strings.Join(args, " "), err)
	}
}

func cmdFails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: fails CODE ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(os.Args[0], args[1:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("dlreconcile %s: exit %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// cmdJSON takes what is on stdout apart.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		ts.Fatalf("stdout is not JSON: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("stdout has more than one JSON document")
	}
	if len(args) == 0 {
		return
	}
	got, err := at(v, args[0])
	if (err != nil) != (neg && len(args) == 1) {
		ts.Fatalf("%s: %v", args[0], err)
	}
	if len(args) == 2 && (got == args[1]) == neg {
		ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
	}
	if len(args) == 1 && err == nil {
		fmt.Fprintln(ts.Stdout(), got)
	}
}

// at gives the text of a value by its dotted path.
func at(v any, path string) (string, error) {
	for _, step := range strings.Split(path, ".") {
		switch c := v.(type) {
		case map[string]any:
			next, ok := c[step]
			if !ok {
				return "", fmt.Errorf("there is no %s", step)
			}
			v = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(c) {
				return "", fmt.Errorf("there is no %s among %d", step, len(c))
			}
			v = c[i]
		default:
			return "", fmt.Errorf("%v has no %s", v, step)
		}
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case []any:
		return fmt.Sprintf("%d", len(v)), nil // a list counts
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(b.String()), err
}

func cmdLet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: let NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// farDay names the day of the week that is three days from now.
func farDay(now time.Time) string {
	return strings.ToLower(now.AddDate(0, 0, 3).Weekday().String()[:3])
}

// filler puts in what files of a story leave open.
func (s *story) filler() *strings.Replacer {
	var fill []string
	for i, name := range portNames {
		fill = append(fill, "@"+name+"@", strconv.Itoa(s.ports[i]))
	}
	return strings.NewReplacer(append(fill, "@far@", farDay(time.Now()))...)
}

// readTree gives the files below dir by path, with ports filled in.
func (s *story) readTree(dir string) (map[string]string, error) {
	ports := s.filler()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = ports.Replace(string(b))
		return err
	})
	return files, err
}
