package bootloader

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

func pxelinuxOffer(timeout int, titles ...string) *offer {
	o := &offer{family: pxelinux{}, boot: &schema.Bootloader{Timeout: timeout, Serial: "0,115200"}, arch: "amd64"}
	for _, t := range titles {
		o.choices = append(o.choices, choice{
			entry:   &schema.Entry{Title: t},
			dir:     t,
			words:   []string{"root=/dev/nbd0", macWord, "rw", "quiet"},
			initrds: []string{t + "/initrd.img", t + "/machine.img"},
		})
	}
	return o
}

func TestPXELINUXConfiguration(t *testing.T) {
	want := `SERIAL 0 115200
DEFAULT e1
PROMPT 0
ONERROR restart
LABEL e1
  LINUX arch/vmlinuz
  INITRD arch/initrd.img,arch/machine.img
  APPEND root=/dev/nbd0 rw quiet
  SYSAPPEND 0x2
LABEL restart
  COM32 reboot.c32
`
	if d := cmp.Diff(want, pxelinux{}.config(pxelinuxOffer(0, "arch"))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestPXELINUXMenu(t *testing.T) {
	want := `SERIAL 0 115200
UI menu.c32
MENU TITLE dlreconcile
TIMEOUT 50
DEFAULT e1
PROMPT 0
ONERROR restart
LABEL e1
  MENU LABEL arch
  LINUX arch/vmlinuz
  INITRD arch/initrd.img,arch/machine.img
  APPEND root=/dev/nbd0 rw quiet
  SYSAPPEND 0x2
LABEL e2
  MENU LABEL a?b
  LINUX a^b/vmlinuz
  INITRD a^b/initrd.img,a^b/machine.img
  APPEND root=/dev/nbd0 rw quiet
  SYSAPPEND 0x2
LABEL restart
  COM32 reboot.c32
  MENU HIDE
`
	if d := cmp.Diff(want, pxelinux{}.config(pxelinuxOffer(5, "arch", "a^b"))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// The line was read from the console of a machine that PXELINUX 6.04 booted.
func TestPXELINUXKernelLine(t *testing.T) {
	o := pxelinuxOffer(0, "arch")
	want := "BOOT_IMAGE=arch/vmlinuz root=/dev/nbd0 rw quiet initrd=arch/initrd.img,arch/machine.img BOOTIF=01-52-54-00-00-00-07"
	if got := o.family.line(o, o.choices[0], provider.MAC{0x52, 0x54, 0, 0, 0, 7}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
