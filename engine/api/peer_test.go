package api

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// Who is let in by the socket's group is an operator, or what the principals make of
// him; root is an admin.
func TestSocketsGroup(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "curl")
	const nobody, group, lookers = 65534, 54321, 54322
	d := newDaemon(t,
		Principal{Name: "guests", Role: RoleViewer, Group: strconv.Itoa(lookers)},
		Principal{Name: "boss", Role: RoleAdmin, User: "54323"},
	)
	d.served(1)
	dir := d.path[:strings.LastIndex(d.path, "/")]
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	post := func(uid, gid uint32, body string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", d.path,
			"-X", "POST", "-H", `If-Match: "77"`, "-d", body, "http://x/v1/"+map[bool]string{true: "plan", false: "release"}[body != ""])
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	for _, c := range []struct {
		what     string
		uid, gid uint32
		owner    int // the socket's group
		want     string
	}{
		{"root", 0, 0, group, "412"},
		{"in the socket's group", nobody, group, group, "412"},
		{"in a group of viewers", nobody, lookers, lookers, "403"},
		{"a user's own block goes before his group's", 54323, lookers, lookers, "412"},
		{"in neither", nobody, nobody, group, "exit status 7"}, // curl: could not connect
	} {
		if err := os.Chown(d.path, 0, c.owner); err != nil {
			t.Fatal(err)
		}
		if got := post(c.uid, c.gid, ""); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

func TestPrincipalsOfUsers(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip("this user has no entry in the user database: ", err)
	}
	uid, _ := strconv.ParseUint(me.Uid, 10, 32)
	gid, _ := strconv.ParseUint(me.Gid, 10, 32)
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Skip("its group has none: ", err)
	}
	low := Principal{Name: "low", Role: RoleViewer, Group: group.Name}
	high := Principal{Name: "high", Role: RoleOperator, Group: me.Gid}
	own := Principal{Name: "own", Role: RoleViewer, User: me.Username}
	other := Principal{Name: "other", Role: RoleAdmin, User: me.Username + "x", Certificate: me.Username}
	for _, c := range []struct {
		want string
		list []Principal
	}{
		{"", nil}, {"", []Principal{other}}, {"low", []Principal{other, low}}, {"high", []Principal{low, high}},
		{"high", []Principal{high, low}}, {"own", []Principal{high, own}},
	} {
		got := ""
		if p := NewPrincipals(c.list).ofUser(uint32(uid), uint32(gid)); p != nil {
			got = p.Name
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.list, got, c.want)
		}
	}
}
