package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// withoutMachines walks the chain on loopback: the daemon is the real one, and the
// machine is a few lines of Go that ask what firmware and initramfs would ask.
func (d *demo) withoutMachines(ctx context.Context) (err error) {
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	d.step("A Git repo with one commit, and a root file system packed by hand")
	if err := source.Init(d.repo()); err != nil {
		return err
	}
	files, err := loopbackSite(ports, 1)
	if err != nil {
		return err
	}
	first, err := source.Commit(d.repo(), files, "one small root")
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "%s/site.hcl, commit %s\n", d.repo(), short(first.Hash))

	d.step("Serve it on loopback")
	fmt.Fprintf(d.out, "$ dlreconcile serve --repo %s\n", d.repo())
	cmd := exec.CommandContext(ctx, executable(), "serve", "--repo", d.repo(), "--state", d.state(), "--config", os.DevNull)
	cmd.SysProcAttr = ownRoot()
	// Tools that make file systems are not on every user's PATH.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	daemon, err := d.serve(ctx, cmd, first.Hash)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.stop()) }()

	d.step("A client asks what a machine's firmware, iPXE and initramfs ask")
	old, err := d.walkAs(ctx, daemon.client, ports, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.close()) }()

	d.step("Change the root, and see the plan before the commit")
	if files, err = loopbackSite(ports, 2); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(d.repo()+"/"+name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := d.tell(ctx, "plan"); err != nil {
		return err
	}
	second, err := source.Commit(d.repo(), files, "another root")
	if err != nil {
		return err
	}
	if err := d.waitSynced(ctx, daemon, second.Hash); err != nil {
		return err
	}

	d.step("The first client keeps its root, and a second one gets the new one")
	if err := old.same(); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "client 1 reads the same bytes of %s as before\n", old.export)
	next, err := d.walkAs(ctx, daemon.client, ports, 2)
	if err != nil {
		return err
	}
	if next.export == old.export {
		return errors.Join(fmt.Errorf("both clients have the root %s", next.export), next.close())
	}
	if err := next.close(); err != nil {
		return err
	}
	if err := d.tell(ctx, "nodes"); err != nil {
		return err
	}
	fmt.Fprintln(d.out, "\nThe chain holds. `make demo`, as root, boots a real machine through it.")
	return nil
}

// ownRoot lets a daemon that was started without root build an image all the same:
// in a user namespace in which this user is root, and its files are root's.
func ownRoot() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// walkAs goes through one boot as client number n, and holds each byte against
// what explain says.
func (d *demo) walkAs(ctx context.Context, c *api.Client, ports []int, n byte) (*walker, error) {
	w := &walker{mac: provider.MAC{0x52, 0x54, 0, 0, 1, n}, ports: ports}
	offer, err := w.dhcp(ctx)
	if err != nil {
		return nil, fmt.Errorf("client %d: DHCP: %w", n, err)
	}
	fmt.Fprintf(d.out, "client %d, %s: DHCP gives %s and %s\n", n, w.mac, w.addr, offer)
	var told explain.Result
	if err := c.Get(ctx, "/v1/explain", map[string][]string{"machine": {w.mac.String()}, "class": {"iPXE"}}, &told); err != nil {
		return nil, err
	}
	if len(told.Fails) > 0 {
		return nil, fmt.Errorf("explain: %s", strings.Join(told.Fails, "; "))
	}
	for _, a := range told.Steps {
		switch a.Kind {
		case provider.AnswerDHCP:
		case provider.AnswerRoot:
			w.export, w.size = a.Name, a.Size
			if err := w.attach(ctx); err != nil {
				return nil, fmt.Errorf("client %d: NBD: %w", n, err)
			}
			fmt.Fprintf(d.out, "  NBD   %s, %d MiB, its first 64 KiB have the digest %.12x\n", a.Name, a.Size>>20, sha256.Sum256(w.first))
		default:
			for _, get := range []struct {
				name string
				by   func(context.Context, string) (string, error)
			}{{"HTTP", w.http}, {"TFTP", w.tftp}} {
				digest, err := get.by(ctx, a.Name)
				if err != nil {
					return nil, fmt.Errorf("client %d: %s %s: %w", n, get.name, a.Name, err)
				}
				if digest != a.Digest {
					return nil, fmt.Errorf("client %d: %s %s: the bytes are not what explain says", n, get.name, a.Name)
				}
				fmt.Fprintf(d.out, "  %s  %s, %d bytes\n", get.name, a.Name, a.Size)
			}
		}
	}
	fmt.Fprintf(d.out, "  kernel line: %s\n", told.KernelLine)
	return w, nil
}
