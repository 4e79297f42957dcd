package identity

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
)

func write(t *testing.T, mode os.FileMode, content string) File {
	t.Helper()
	f := File{filepath.Join(t.TempDir(), "identity")}
	if err := os.WriteFile(f.Path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return f
}

func encrypt(t testing.TB, armored bool, text string, to ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	w := armor.NewWriter(&out)
	var err error
	if armored {
		e, eerr := age.Encrypt(w, to...)
		if eerr != nil {
			t.Fatal(eerr)
		}
		if _, err = e.Write([]byte(text)); err == nil {
			err = e.Close()
		}
		if err == nil {
			err = w.Close()
		}
	} else {
		e, eerr := age.Encrypt(&out, to...)
		if eerr != nil {
			t.Fatal(eerr)
		}
		if _, err = e.Write([]byte(text)); err == nil {
			err = e.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func key(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestOpen(t *testing.T) {
	one, two := key(t), key(t)
	f := write(t, 0o600, "# made today\n"+one.String()+"\n"+two.String()+"\n")
	for _, armored := range []bool{false, true} {
		for _, to := range []*age.X25519Identity{one, two} {
			got, err := f.Open(encrypt(t, armored, "hunter2", key(t).Recipient(), to.Recipient()))
			if err != nil || string(got) != "hunter2" {
				t.Errorf("armored %v: %q, %v", armored, got, err)
			}
		}
	}
}

func TestOpenWithSSHKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ssh_host_ed25519_key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	to, err := agessh.ParseRecipient(string(public))
	if err != nil {
		t.Fatal(err)
	}
	got, err := File{path}.Open(encrypt(t, true, "hunter2", to))
	if err != nil || string(got) != "hunter2" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	id := key(t)
	sealed := encrypt(t, false, "hunter2", id.Recipient())
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-1] ^= 1
	scrypt, err := age.NewScryptRecipient("pass")
	if err != nil {
		t.Fatal(err)
	}
	scrypt.SetWorkFactor(2)
	good := write(t, 0o600, id.String())
	other := key(t)
	for name, c := range map[string]struct {
		f      File
		sealed []byte
		want   string
	}{
		"no identity":   {File{}, sealed, "--age-identity"},
		"missing file":  {File{filepath.Join(t.TempDir(), "none")}, sealed, "cannot be read"},
		"open to all":   {write(t, 0o644, id.String()), sealed, "chmod 0600"},
		"no identities": {write(t, 0o600, "hello\n"), sealed, "age-keygen"},
		"too long":      {write(t, 0o600, strings.Repeat("#", maxIdentities+1)), sealed, "more than"},
		"broken SSH":    {write(t, 0o600, "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"), sealed, "passphrase"},
		"others":        {write(t, 0o600, other.String()), sealed, other.Recipient().String()},
		"passphrase":    {good, encrypt(t, false, "hunter2", scrypt), "others than"},
		"damaged":       {good, damaged, "damaged"},
		"cut off":       {good, sealed[:len(sealed)-20], "damaged"},
		"not age":       {good, []byte("hunter2"), "not a file that age"},
		"empty":         {good, nil, "not a file that age"},
		"large":         {good, encrypt(t, false, strings.Repeat("x", maxPlain+1), id.Recipient()), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.f.Open(c.sealed)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%q, %v; want an error with %q", got, err, c.want)
			}
			for _, secret := range []string{"hunter2", id.String(), other.String()} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error tells a secret: %v", err)
				}
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	id := key(f)
	path := filepath.Join(f.TempDir(), "identity")
	if err := os.WriteFile(path, []byte(id.String()), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Add(encrypt(f, false, "hunter2", id.Recipient()))
	f.Add(encrypt(f, true, "hunter2", id.Recipient()))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if b, err := (File{path}).Open(sealed); err == nil && len(b) > maxPlain {
			t.Fatalf("%d bytes", len(b))
		}
	})
}
