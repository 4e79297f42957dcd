package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// Clients that nobody here wrote, each against the one daemon.
func TestE2EForeignClients(t *testing.T) {
	s := newSite(t, siteFiles("commit-one"))
	providertest.Need(t, "busybox", "dhclient", "curl", "tftp", "atftp", "nbdinfo", "nbdcopy", "qemu-img")
	s.withImages()
	s.start()
	s.applied(s.commit(nil, "go"))

	// A client with a reservation, and what it is told to load.
	told := s.explained(macOf(machineA).String(), "iPXE")
	var kernel, root provider.Answer
	for _, a := range told.Steps {
		switch a.Kind {
		case provider.AnswerKernel:
			kernel = a
		case provider.AnswerRoot:
			root = a
		}
	}
	c := s.client1(t, machineA)
	dir := t.TempDir()
	do := func(t *testing.T, name string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(s.ctx, cliLimit)
		defer cancel()
		cmd := c.Command(ctx, name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	refuse := func(t *testing.T, name string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(s.ctx, cliLimit)
		defer cancel()
		if out, err := c.Command(ctx, name, args...).CombinedOutput(); err == nil {
			t.Errorf("%s %s works, and must not:\n%s", name, strings.Join(args, " "), out)
		}
	}
	const nbd = "nbd://10.77.0.1/"

	t.Run("nothing without a lease", func(t *testing.T) {
		do(t, "ip", "addr", "add", "10.77.0.250/24", "dev", lab.ClientInterface)
		refuse(t, "nbdinfo", nbd+root.Name)
		do(t, "ip", "addr", "del", "10.77.0.250/24", "dev", lab.ClientInterface)
	})
	t.Run("udhcpc", func(t *testing.T) {
		script := filepath.Join(dir, "bound")
		if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = bound ] && env >"+dir+"/lease\nexit 0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		do(t, "busybox", "udhcpc", "-i", lab.ClientInterface, "-n", "-q", "-f", "-s", script)
		lease, err := os.ReadFile(filepath.Join(dir, "lease"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"ip=10.77.0.20", "subnet=255.255.255.0", "router=10.77.0.1", "dns=10.77.0.1", "domain=lab.example", "lease=600", "serverid=10.77.0.1", "siaddr=10.77.0.1"} {
			if !strings.Contains(string(lease), want+"\n") {
				t.Errorf("udhcpc was not told %s:\n%s", want, lease)
			}
		}
	})
	t.Run("dhclient", func(t *testing.T) {
		do(t, "dhclient", "-4", "-1", "-v", "-lf", dir+"/dhclient.leases", "-pf", dir+"/dhclient.pid", lab.ClientInterface)
		if out := do(t, "ip", "-4", "addr", "show", "dev", lab.ClientInterface); !strings.Contains(out, "10.77.0.20/24") {
			t.Errorf("dhclient configured:\n%s", out)
		}
		do(t, "dhclient", "-4", "-x", "-lf", dir+"/dhclient.leases", "-pf", dir+"/dhclient.pid", lab.ClientInterface)
		do(t, "ip", "addr", "add", "10.77.0.20/24", "dev", lab.ClientInterface)
	})
	t.Run("curl", func(t *testing.T) {
		url := "http://10.77.0.1/" + kernel.Name
		do(t, "curl", "-sSf", "-o", "kernel", url)
		sameDigest(t, filepath.Join(dir, "kernel"), kernel.Digest)
		do(t, "curl", "-sSf", "-r", "0-999", "-o", "part", url)
		do(t, "curl", "-sSf", "-C", "-", "-o", "part", url)
		sameDigest(t, filepath.Join(dir, "part"), kernel.Digest)
		if out := do(t, "curl", "-sSfI", url); !strings.Contains(out, fmt.Sprintf("Content-Length: %d", kernel.Size)) {
			t.Errorf("HEAD says:\n%s", out)
		}
		refuse(t, "curl", "-sSf", "http://10.77.0.1/b/../state")
	})
	t.Run("tftp-hpa", func(t *testing.T) {
		do(t, "tftp", "-m", "binary", "10.77.0.1", "-c", "get", kernel.Name, "by-tftp")
		sameDigest(t, filepath.Join(dir, "by-tftp"), kernel.Digest)
	})
	t.Run("atftp", func(t *testing.T) {
		do(t, "atftp", "--option", "blksize 1428", "--get", "-r", "/"+kernel.Name, "-l", dir+"/by-atftp", "10.77.0.1")
		sameDigest(t, filepath.Join(dir, "by-atftp"), kernel.Digest)
	})
	t.Run("nbdinfo", func(t *testing.T) {
		var info struct {
			Exports []struct {
				Name     string `json:"export-name"`
				Size     int64  `json:"export-size"`
				ReadOnly bool   `json:"is_read_only"`
				Flush    bool   `json:"can_flush"`
				FUA      bool   `json:"can_fua"`
			} `json:"exports"`
		}
		if err := json.Unmarshal([]byte(do(t, "nbdinfo", "--json", nbd+root.Name)), &info); err != nil {
			t.Fatal(err)
		}
		e := info.Exports[0]
		if e.Size != root.Size || e.ReadOnly || !e.Flush || !e.FUA {
			t.Errorf("nbdinfo says %+v, want %d bytes, writable, with FLUSH and FUA", e, root.Size)
		}
		refuse(t, "nbdinfo", nbd+"no-such-export")
	})
	t.Run("nbdcopy", func(t *testing.T) {
		do(t, "nbdcopy", nbd+root.Name, "root.img")
		sameDigest(t, filepath.Join(dir, "root.img"), root.Digest)
	})
	t.Run("qemu-img", func(t *testing.T) {
		do(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", "root.img", nbd+root.Name)
		do(t, "qemu-img", "info", nbd+root.Name)
	})
}

// client1 is a namespace with the MAC of one of the site's hosts.
func (s *site) client1(t *testing.T, last byte) *lab.ClientNS {
	t.Helper()
	c, err := s.lab.Client(s.ctx, lab.ClientConfig{Name: "foreign", MAC: macOf(last)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sameDigest(t *testing.T, file, want string) {
	t.Helper()
	got, err := fileDigest(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s has digest %s, want %s", filepath.Base(file), got, want)
	}
}
