package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// crashTale is what a story comes to on one lane when nothing fails.
type crashTale struct {
	points                       []string // hit, in their order
	answers, answersThen         string   // before and after
	recorded, recordedThen, then string
}

// crashCase is one failure.
type crashCase struct {
	story  int
	point  string
	nth    int
	action string
	sure   bool // it is always hit
}

func (c crashCase) String() string { return fmt.Sprintf("%s#%d=%s", c.point, c.nth, c.action) }

// A daemon that is killed at any point, or at which any step fails, serves what it
// served or what it was about to; and after one more start and one more look at the
// repo nobody can tell that anything happened.
func TestCrash(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "git", gitBackend)
	// All hits of all points, or those that match, such as ^apply:.store.seal.
	only := os.Getenv("DLRECONCILE_TEST_CRASH")
	if os.Getenv("DLRECONCILE_TEST_FULL") == "" && only == "" {
		t.Skip("it takes minutes; set DLRECONCILE_TEST_FULL=1")
	}
	full := only != ""
	bin := filepath.Join(t.TempDir(), "dlreconcile")
	build := exec.Command("go", "build", "-tags", "failpoints", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	stories := crashStories()
	lanes := []*crashLane{newCrashLane(t, bin), newCrashLane(t, bin)}
	tales := make([][]crashTale, len(lanes))
	var wg sync.WaitGroup
	for i, l := range lanes {
		wg.Go(func() {
			tales[i] = l.prepare(stories)
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}

	var cases []crashCase
	hit := map[string]bool{}
	for i, s := range stories {
		counts, before, order := map[string]int{}, map[string]int{}, []string{}
		for _, p := range tales[0][i].points {
			if p == s.from && counts[p] == 0 {
				before = maps.Clone(counts)
			}
			if counts[p]++; counts[p] == 1 {
				order = append(order, p)
			}
			if p == s.upTo {
				break
			}
		}
		for _, p := range order {
			fresh := !hit[p]
			hit[p] = true
			first := before[p] + 1
			for n := first; n <= counts[p]; n++ {
				edge := n == first || n == counts[p]
				if edge && (fresh || !s.rest || slices.Contains(s.also, p)) || full {
					cases = append(cases, crashCase{i, p, n, "kill", fresh})
				}
				if fresh && n == first || full && edge {
					cases = append(cases, crashCase{i, p, n, "error", fresh})
				}
				if full && n == first {
					cases = append(cases, crashCase{i, p, n, "panic", fresh})
				}
			}
		}
	}
	if only != "" {
		re := regexp.MustCompile(only)
		cases = slices.DeleteFunc(cases, func(c crashCase) bool { return !re.MatchString(stories[c.story].name + ": " + c.String()) })
	}
	queue := make(chan crashCase, len(cases))
	for _, c := range cases {
		queue <- c
	}
	close(queue)
	var mu sync.Mutex
	survived, told := map[string]int{}, map[string]int{}
	for i, l := range lanes {
		wg.Go(func() {
			for c := range queue {
				started := time.Now()
				err := l.survives(stories[c.story], tales[i][c.story], c)
				mu.Lock()
				told[c.action]++
				if err == nil {
					survived[c.action]++
				} else {
					t.Errorf("%s: %s: %v", stories[c.story].name, c, err)
				}
				mu.Unlock()
				if testing.Verbose() {
					t.Logf("%-8s %-36s %4.1f s", stories[c.story].name, c, time.Since(started).Seconds())
				}
			}
		})
	}
	wg.Wait()

	for p := range failpointsInSource(t) {
		if !hit[p] {
			t.Errorf("no story comes past %s: tell one", p)
		}
	}
	var table bytes.Buffer
	for _, action := range []string{"kill", "error", "panic"} {
		if told[action] > 0 {
			fmt.Fprintf(&table, "crash: %d points, %s %d times, %d survived\n", len(hit), action, told[action], survived[action])
		}
	}
	for i, s := range stories {
		if s.base != "torn" {
			continue
		}
		n, wrong := lanes[0].tornJournals(tales[0][i], full)
		for _, err := range wrong {
			t.Error(err)
		}
		fmt.Fprintf(&table, "crash: the journal's last entry cut off or changed %d times, %d survived\n", n, n-len(wrong))
	}
	fmt.Print(table.String())
}

// keptBoots is how many boots of a machine are remembered that are over.
const keptBoots = 8

// crashOtherwise names the failures after which the state directory is rightly not as
// without them, and says why.
var crashOtherwise = map[string]string{
	"sock.bind.begin=error": "a start that cannot bind serves the generation before, and the client that boots is pinned to it",
	"sock.bind.end=error":   "a start that cannot bind serves the generation before, and the client that boots is pinned to it",
	"sock.bind.begin=panic": "as with an error: Prepare's panics are errors",
	"sock.bind.end=panic":   "as with an error: Prepare's panics are errors",
}

// prepare makes the state directories that stories begin with, and tells each story
// without a failure.
func (l *crashLane) prepare(stories []crashStory) []crashTale {
	l.t.Helper()
	fail := func(err error) {
		if err != nil {
			l.t.Error(err)
		}
	}
	run := func(do func(*crashDaemon) error) bool {
		d := l.start("")
		err := do(d)
		if err == nil {
			err = d.end()
		}
		if err != nil {
			d.cmd.Process.Kill()
			<-d.exited
			fail(fmt.Errorf("%w\n%s", err, d.tail()))
		}
		return err == nil
	}
	small := crashSite(l.t, l.ports, 0)
	small["site.hcl"], _, _ = strings.Cut(small["site.hcl"], "export ")
	l.commit(small)
	if out, err := l.command("", "image", "build").CombinedOutput(); err != nil {
		fail(fmt.Errorf("image build: %w: %s", err, out))
		return nil
	}
	l.keep("empty")
	for commit := range 2 {
		l.commit(crashSite(l.t, l.ports, commit))
		ok := run(func(d *crashDaemon) error {
			if err := d.passes("engine.retire.end", 1); err != nil {
				return err
			}
			ctx, cancel := d.context()
			defer cancel()
			for range commit * (keptBoots + 1) {
				c := newCrashClient(l, 1)
				defer c.w.close()
				if err := c.boot(ctx, l); err != nil {
					return err
				}
			}
			return nil
		})
		if !ok {
			return nil
		}
	}
	// As a damaged mirror leaves it: it is made anew.
	fail(os.RemoveAll(filepath.Join(l.state(), "mirror")))
	fail(os.MkdirAll(filepath.Join(l.state(), "mirror"), 0o755))
	l.keep("old")
	l.commit(crashSite(l.t, l.ports, 2))

	var tales []crashTale
	for _, s := range stories {
		if s.base == "torn" {
			// Killed when the record is there and not yet current.
			l.restore("old")
			l.gate.open()
			at := lastBefore(tales[0].points, "store.publish.rename", "engine.publish.begin")
			d := l.start(fmt.Sprintf("store.publish.rename#%d=kill", at))
			select {
			case <-d.exited:
			case <-time.After(crashLimit):
				d.cmd.Process.Kill()
				<-d.exited
				fail(fmt.Errorf("store.publish.rename#%d is not reached", at))
				return nil
			}
			l.keep("torn")
		}
		tale, err := l.tell(s)
		if err != nil {
			fail(fmt.Errorf("%s, and nothing fails: %w", s.name, err))
			return nil
		}
		tales = append(tales, tale)
		if s.name == "apply" {
			l.keep("new")
			if err := l.damage(); err != nil {
				fail(err)
				return nil
			}
			l.keep("damaged")
		}
	}
	return tales
}

// lastBefore counts the hits of point up to the first of other.
func lastBefore(points []string, point, other string) int {
	n := 0
	for _, p := range points {
		if p == other {
			break
		}
		if p == point {
			n++
		}
	}
	return n
}

// tell tells a story without a failure.
func (l *crashLane) tell(s crashStory) (tale crashTale, err error) {
	l.restore(s.base)
	if tale.recorded, err = recordedState(l.state()); err != nil {
		return tale, err
	}
	l.gate.shut()
	d := l.start("")
	defer func() {
		if err != nil {
			d.cmd.Process.Kill()
			<-d.exited
			err = fmt.Errorf("%w\n%s", err, d.tail())
		}
	}()
	if err = d.passes("engine.start.end", 1); err != nil {
		return tale, err
	}
	if err = d.reachable(); err != nil {
		return tale, err
	}
	if tale.answers, err = d.explainAll(); err != nil {
		return tale, err
	}
	c := newCrashClient(l, 1)
	defer c.w.close()
	if err = s.act(l, d, c); err != nil {
		return tale, err
	}
	if tale.answersThen, err = d.explainAll(); err != nil {
		return tale, err
	}
	if err = d.end(); err != nil {
		return tale, err
	}
	tale.points = l.points.all()
	if tale.recordedThen, err = recordedState(l.state()); err != nil {
		return tale, err
	}
	if tale.then, err = wholeState(l.state()); err != nil {
		return tale, err
	}
	if s.mends != (tale.answers == tale.answersThen) || s.mends != (tale.recorded == tale.recordedThen) {
		return tale, fmt.Errorf("whether it changes anything: want %v (-before +after):\n%s%s", !s.mends, diffLines(tale.answers, tale.answersThen), diffLines(tale.recorded, tale.recordedThen))
	}
	return tale, auditedOnce(l.state())
}

// survives tells a story in which something fails, and says what is wrong then.
func (l *crashLane) survives(s crashStory, tale crashTale, c crashCase) error {
	l.restore(s.base)
	l.gate.shut()
	d := l.start(c.String())
	defer func() {
		d.cmd.Process.Kill() // if it is still there
		<-d.exited
	}()
	client := newCrashClient(l, 1)
	defer func() { client.w.close() }()
	if err := s.act(l, d, client); err != nil && !d.dead() {
		return fmt.Errorf("%w\n%s", err, d.tail())
	}
	if !d.dead() {
		if err := d.reachable(); err != nil {
			return fmt.Errorf("%w\n%s", err, d.tail())
		}
		answers, err := d.explainAll()
		if err == nil && answers != tale.answersThen {
			return fmt.Errorf("it does not answer as if nothing had failed (-want +got):\n%s", brief(tale.answersThen, answers))
		}
		if err := d.end(); err != nil && l.points.count(c.point) < c.nth {
			return err
		}
	}
	<-d.exited
	if l.points.count(c.point) < c.nth {
		if c.nth == 1 && c.sure {
			return fmt.Errorf("the daemon does not come past it\n%s", d.tail())
		}
		return nil // how often is not always the same
	}
	if c.action == "kill" && !d.killed() {
		return fmt.Errorf("it is not killed: %v", d.cmd.ProcessState)
	}

	// What is on disk is what was or what was to be.
	recorded, err := recordedState(l.state())
	if err != nil {
		return err
	}
	if recorded != tale.recorded && recorded != tale.recordedThen {
		return fmt.Errorf("neither the old state nor the new is recorded (-new +got):\n%s", brief(tale.recordedThen, recorded))
	}
	undone := recorded == tale.recorded
	l.gate.shut()
	d = l.start("")
	if err := d.passes("engine.start.end", 1); err != nil || d.dead() {
		return fmt.Errorf("it does not start again: %w\n%s", err, d.tail())
	}
	answers, err := d.explainAll()
	if err != nil {
		return err
	}
	want := tale.answersThen
	if undone {
		want = tale.answers
	}
	before := answers != want && s.mends
	if before {
		undone = false
	} else if answers != want {
		return fmt.Errorf("it does not answer what is recorded (-want +got):\n%s", brief(want, answers))
	}
	ctx, cancel := d.context()
	defer cancel()
	if err := client.kept(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, d.tail())
	}
	client.w.close()
	if err := s.again(l, d, undone); err != nil {
		return fmt.Errorf("%w\n%s", err, d.tail())
	}
	if answers, err = d.explainAll(); err != nil {
		return err
	}
	if answers != tale.answersThen {
		return fmt.Errorf("it answers otherwise in the end (-want +got):\n%s", brief(tale.answersThen, answers))
	}
	if err := d.end(); err != nil {
		return err
	}
	whole, err := wholeState(l.state())
	if err != nil {
		return err
	}
	if whole != tale.then && !before && crashOtherwise[c.point+"="+c.action] == "" {
		return fmt.Errorf("the state directory is not what it would be (-want +got):\n%s", diffLines(tale.then, whole))
	}
	return auditedOnce(l.state())
}
