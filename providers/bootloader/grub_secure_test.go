package bootloader

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

// One refusal for each image, at the line that asks for it, with everybody concerned.
func TestUnsignedKernelsAreRefused(t *testing.T) {
	b := newBench(t)
	d := b.grubSite()
	d.Bootloaders[0].SecureBoot = true
	b.art.Signed = true
	if _, err := b.compile(d); err != nil {
		t.Fatalf("a signed kernel: %v", err)
	}
	b.art.Signed = false
	_, err := b.compile(d)
	diags, _ := err.(hcl.Diagnostics)
	if len(diags) != 1 {
		t.Fatalf("%v", err)
	}
	got := diags[0]
	if got.Subject.Start.Line != 33 || got.Summary != "The kernel of image.arch is not signed" {
		t.Errorf("%v", got)
	}
	if want := "would be booted by host.ws01, host.ws02, machines on subnet.lan without a host block. "; !strings.Contains(got.Detail, want) {
		t.Errorf("%s\nwant %q in it", got.Detail, want)
	}
	d.Bootloaders[0].SecureBoot = false
	if _, err := b.compile(d); err != nil {
		t.Errorf("without secure_boot: %v", err)
	}
}

func TestUnsignedKernelsOfManyMachines(t *testing.T) {
	b := newBench(t)
	d := b.grubSite()
	d.Bootloaders[0].SecureBoot = true
	for i := range 100 {
		d.Hosts = append(d.Hosts, &schema.Host{Meta: meta(addr("host", "", fmt.Sprintf("x%03d", i)), 200), MAC: fmt.Sprintf("52:54:00:00:01:%02x", i), Subnet: lan})
	}
	_, err := b.compile(d)
	if err == nil || !strings.Contains(err.Error(), "host.x017 and 83 more. ") {
		t.Errorf("%v", err)
	}
}

// An image for another processor is no business of the signed programs.
func TestSecureBootOfARM(t *testing.T) {
	b := newBench(t)
	d := b.grubSite()
	d.Bootloaders[0].SecureBoot, b.art.Arch = true, "arm64"
	if _, err := b.compile(d); err != nil {
		t.Error(err)
	}
}
