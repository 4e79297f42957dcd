package httpboot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

func TestCurl(t *testing.T) {
	providertest.Need(t, "curl")
	file := random(5<<20 + 3)
	s := serve(t, Config{}, map[string][]byte{"disk/f": file, "b/id/boot.ipxe": []byte("#!ipxe\n")})
	out := filepath.Join(t.TempDir(), "out")
	curl := func(args ...string) string {
		t.Helper()
		os.Remove(out)
		b, err := exec.Command("curl", append([]string{"-sS", "-o", out}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("curl %q: %v\n%s", args, err, b)
		}
		return string(b)
	}
	want := func(what string, part []byte) {
		t.Helper()
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, part) {
			t.Errorf("%s: wrong bytes (%v)", what, err)
		}
	}
	curl("-f", s.url+"/disk/f")
	want("whole", file)
	curl("-f", "-r", "1000000-1999999", s.url+"/disk/f")
	want("range", file[1000000:2000000])
	curl("-f", "-r", "-77", s.url+"//disk//f")
	want("tail", file[len(file)-77:])

	// A download that broke off is resumed.
	if err := os.WriteFile(out, file[:3<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("curl", "-sS", "-f", "-C", "-", "-o", out, s.url+"/disk/f").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, b)
	}
	want("resumed", file)

	head, err := exec.Command("curl", "-sS", "-I", s.url+"/disk/f").Output()
	if err != nil || !strings.Contains(string(head), "Content-Length: 5242883\r\n") || !strings.Contains(string(head), "Accept-Ranges: bytes\r\n") {
		t.Errorf("HEAD: %v\n%s", err, head)
	}
	etag := exec.Command("curl", "-sS", "-o", out, "-w", "%{http_code}", "-H", "If-None-Match: "+field(string(head), "Etag"), s.url+"/disk/f")
	if b, err := etag.Output(); err != nil || string(b) != "304" {
		t.Errorf("If-None-Match: %v %s", err, b)
	}
	if code := curl("-w", "%{http_code}", s.url+"/nope"); code != "404" {
		t.Errorf("missing: %s", code)
	}
	if code := curl("-X", "POST", "-w", "%{http_code}", s.url+"/phone/userland"); code != "204" {
		t.Errorf("phone: %s", code)
	}
	if got := <-s.phoned; got != "127.0.0.1 userland" {
		t.Errorf("phoned %q", got)
	}
	// With a body, as `curl --data` or busybox wget send one.
	if code := curl("-d", "seconds=12.5", "-w", "%{http_code}", s.url+"/phone/attached"); code != "204" {
		t.Errorf("phone with a body: %s", code)
	}
}

func field(head, name string) string {
	for line := range strings.SplitSeq(head, "\r\n") {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return v
		}
	}
	return ""
}
