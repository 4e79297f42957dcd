package bootloader

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

func grubOffer(timeout int, titles ...string) *offer {
	o := &offer{
		family: grub{}, boot: &schema.Bootloader{Timeout: timeout, Serial: "1,38400"}, arch: "amd64",
		places: places{tftp: netip.MustParseAddrPort("10.0.0.1:69"), http: netip.MustParseAddrPort("10.0.0.1:8080")},
	}
	for i, t := range titles {
		dir := fmt.Sprintf("e%d", i+1)
		o.choices = append(o.choices, choice{
			entry:   &schema.Entry{Title: t},
			dir:     dir,
			words:   []string{"root=/dev/nbd0", macWord, "rw", "a$b", `"c=d e"`},
			initrds: []string{dir + "/initrd.img", dir + "/machine.img"},
		})
	}
	return o
}

// grubHead is what every configuration begins with.
func grubHead(device string) string {
	return `if [ -z "$folder" ]; then
  regexp --set=1:folder '^\([^)]*\)/*(.*)$' "$prefix"
fi
set tree="` + device + `/$folder"
set mac="$net_default_mac"
if regexp --set=1:a --set=2:b --set=3:c --set=4:d --set=5:e --set=6:f '^(..):(..):(..):(..):(..):(..)$' "$net_default_mac"; then
  set mac="$a-$b-$c-$d-$e-$f"
fi
if serial --unit=1 --speed=38400; then
  terminal_input --append serial
  terminal_output --append serial
fi
`
}

func grubFunction(n int, title string) string {
	return fmt.Sprintf(`function boot_%[1]d {
  for try in 1 2 3 4 5; do
    echo %[2]s
    if linux "$tree/e%[1]d/vmlinuz" root=/dev/nbd0 BOOTIF=01-$mac rw 'a$b' 'c=d e'; then
      if initrd "$tree/e%[1]d/initrd.img" "$tree/e%[1]d/machine.img"; then
        boot
      fi
    fi
    echo 'dlreconcile: this did not work, trying again'
    sleep 3
  done
  echo 'dlreconcile: giving up, the machine restarts'
  sleep 10
  reboot
}
`, n, title)
}

// Without a timeout nothing is asked, and nobody who holds a key gets a menu.
func TestGRUBConfiguration(t *testing.T) {
	want := grubHead("(tftp,10.0.0.1)") + grubFunction(1, "'dlreconcile: Arch Linux'") + "boot_1\n"
	if d := cmp.Diff(want, grub{}.config(grubOffer(0, "Arch Linux"))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestGRUBMenu(t *testing.T) {
	o := grubOffer(5, "Arch", `it's "a" {b} $c`)
	o.boot.Protocol = schema.HTTP
	want := grubHead("(http,10.0.0.1:8080)") + grubFunction(1, "'dlreconcile: Arch'") + grubFunction(2, `'dlreconcile: it'\''s "a" {b} ?c'`) + `set default=0
set timeout=5
menuentry Arch {
  boot_1
}
menuentry 'it'\''s "a" {b} ?c' {
  boot_2
}
`
	if d := cmp.Diff(want, grub{}.config(o)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// grubUnquoted is how GRUB's lexer reads one word that has no variables in it.
func grubUnquoted(word string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case c == '\'':
			end := strings.IndexByte(word[i+1:], '\'')
			if end < 0 {
				return "", false
			}
			b.WriteString(word[i+1 : i+1+end])
			i += end + 1
		case c == '\\' && i+1 < len(word):
			i++
			b.WriteByte(word[i])
		case strings.IndexByte(" \t\n\"$;|&<>(){}[]*?~!#`^\\", c) >= 0:
			return "", false // it ends the word, or means something
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// onLine is how GRUB puts an argument of the linux command on the kernel line:
// grub_create_loader_cmdline of GRUB 2.06.
func onLine(arg string) string {
	s := strings.NewReplacer(`\`, `\\`, `'`, `\'`, `"`, `\"`).Replace(arg)
	if strings.Contains(arg, " ") {
		s = `"` + s + `"`
	}
	return s
}

// argue asserts that an argument either reaches the kernel as it is written, or is
// refused.
func argue(t *testing.T, arg string) {
	if checkArg(arg) != "" || (grub{}).unfit(arg) != "" {
		return
	}
	var line []string
	words := []string{strings.TrimPrefix(grubWords(arg), " ")}
	if _, enclosed := grubEnclosed(arg); !enclosed {
		words = strings.Split(words[0], " ")
	}
	for _, w := range words {
		read, ok := grubUnquoted(w)
		if !ok {
			t.Fatalf("%q is written as %q, which GRUB does not read as one word", arg, w)
		}
		line = append(line, onLine(read))
	}
	if got := strings.Join(line, " "); got != arg {
		t.Errorf("%q reaches the kernel as %q", arg, got)
	}
}

func FuzzGRUBArguments(f *testing.F) {
	for _, s := range []string{"quiet", "a=b c", `"key=two words"`, "$x", "{}", "a;b", "ü", "*", "[a-z]", "!", "a#b", "`x`"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) { argue(t, arg) })
}

func TestGRUBArgumentsThatDoNotArrive(t *testing.T) {
	for arg, fit := range map[string]bool{
		"quiet": true, `"key=two words"`: true, "two words": true, "a*b?c[d]": true, "ü": true, "$HOME": true,
		`key="two words"`: false, `it's`: false, `a\b`: false, `"one"`: false, `"a b" "c d"`: false, `"a 'b"`: false, `"`: false, `" "a`: false,
	} {
		if why := (grub{}).unfit(arg); (why == "") != fit {
			t.Errorf("%s: %q", arg, why)
		}
		argue(t, arg)
	}
	b := newBench(t)
	d := b.grubSite()
	d.Hosts[1].Args = []string{`it's`}
	_, err := b.compile(d)
	if err == nil || !strings.Contains(err.Error(), "site.hcl:61,1-1: An argument would not reach the kernel") || !strings.Contains(err.Error(), "host.ws02") {
		t.Errorf("a host's argument: %v", err)
	}
	d = site() // with iPXE
	d.Hosts[1].Args = []string{`it's`}
	if _, err := b.compile(d); err != nil {
		t.Errorf("iPXE hands it over: %v", err)
	}
	d = b.grubSite()
	d.Hosts[1].Mounts = []schema.Mount{{Range: at(70), Path: "/", Options: []string{`subvol=a\b`}}}
	if _, err = b.compile(d); err == nil || !strings.Contains(err.Error(), "site.hcl:70") {
		t.Errorf("an option of the root: %v", err)
	}
}

// GRUB's own parser takes what is generated, whatever the arguments and titles are.
func TestGRUBParsesWhatIsGenerated(t *testing.T) {
	providertest.Need(t, "grub-script-check")
	r := rand.New(rand.NewPCG(1, 2))
	const letters = "abz019 '\"\\$`{}[]()<>|&;*?~!#^%@=+,.:/_-äß€"
	random := func() string {
		var b strings.Builder
		for range 1 + r.IntN(12) {
			all := []rune(letters)
			b.WriteRune(all[r.IntN(len(all))])
		}
		return b.String()
	}
	dir := t.TempDir()
	for i := range 20 {
		o := grubOffer(i%2*5, random(), random(), random())
		for n := range o.choices {
			for range 40 {
				arg := random()
				if checkArg(arg) == "" && (grub{}).unfit(arg) == "" {
					o.choices[n].words = append(o.choices[n].words, arg)
				}
			}
		}
		o.tree = &tree{id: "abc"}
		for name, text := range map[string]string{"config": grub{}.config(o), "who": grub{}.lead(o, grubConfig), "into": grub{}.lead(o, grubOwn+"x"), "early": grubEarly()} {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("grub-script-check", file).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s\n%s", name, err, out, text)
			}
		}
	}
}
