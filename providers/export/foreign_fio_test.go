package export

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// fio writes blocks of all sizes that say where they belong and when they were written,
// trims some, reads them back, and again after a restart of the server.
func TestFio(t *testing.T) {
	providertest.Need(t, "fio")
	r := newRig(t)
	a, _ := r.artifact(1, 32<<20)
	r.commit(r.input(1, a))
	line := func(args ...string) []string {
		return append([]string{"--name=x", "--ioengine=nbd", "--uri=" + r.uri(nameOf("arch", a)+bootA), "--output-format=json",
			"--size=32M", "--bsrange=512-64k", "--bs_unaligned=1", "--iodepth=16", "--randseed=7", "--rw=randwrite",
			"--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"}, args...)
	}
	fio := func(args ...string) (out struct {
		Jobs []struct {
			Error       int
			Read, Write struct {
				Bytes int64 `json:"io_bytes"`
				IOs   int64 `json:"total_ios"`
			}
			Trim struct {
				IOs int64 `json:"total_ios"`
			}
		}
	}) {
		t.Helper()
		said := run(t, "fio", line(args...)...)
		if err := json.Unmarshal([]byte(said[strings.IndexByte(said, '{'):]), &out); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		if len(out.Jobs) != 1 || out.Jobs[0].Error != 0 {
			t.Fatalf("%+v", out)
		}
		return out
	}
	j := fio("--do_verify=1").Jobs[0]
	if j.Write.Bytes < 16<<20 || j.Read.Bytes != j.Write.Bytes {
		t.Errorf("%d bytes written, %d verified", j.Write.Bytes, j.Read.Bytes)
	}
	r.restart()
	r.commit(r.input(1, a))
	again := fio("--verify_only=1").Jobs[0]
	if again.Read.Bytes == 0 {
		t.Errorf("nothing was verified after the restart: %+v", again)
	}
	m := r.mustDial(nameOf("arch", a) + bootA)
	m.write(1<<20, "what fio did not write")
	m.nc.Close()
	if _, err := try("fio", line("--verify_only=1")...); err == nil {
		t.Error("fio finds nothing wrong with a block that it did not write: the test shows nothing")
	}
	// Deeper than what one connection has with the disk, synced now and then.
	if j := fio("--do_verify=1", "--iodepth=128", "--fsync=32", "--rw=randrw", "--randseed=8").Jobs[0]; j.Write.IOs == 0 || j.Read.IOs == 0 {
		t.Errorf("%+v", j)
	}
	if j := fio("--rw=randtrimwrite", "--do_verify=1", "--bsrange=4k-4k", "--bs_unaligned=0").Jobs[0]; j.Trim.IOs == 0 || j.Write.IOs == 0 {
		t.Errorf("%+v", j)
	}
}

// qemu-img bench reads and writes at a depth, with flushes between.
func TestQemuImgBench(t *testing.T) {
	providertest.Need(t, "qemu-img")
	r := newRig(t)
	a, sealed := r.artifact(1, 16<<20)
	r.commit(r.input(1, a))
	bench := func(name string, args ...string) {
		t.Helper()
		out := run(t, "qemu-img", append(append([]string{"bench", "-f", "raw", "-c", "4000", "-d", "32", "-s", "4096"}, args...), r.uri(name))...)
		if !strings.Contains(out, "Run completed") {
			t.Error(out)
		}
	}
	bench(nameOf("sealed", a))
	bench(nameOf("sealed", a), "-S", "20480")
	bench(nameOf("arch", a)+bootA, "-w", "--pattern=90", "--flush-interval=100")
	out := run(t, "qemu-io", append([]string{"-c", "read -P 90 0 16000k"}, r.qemu(nameOf("arch", a)+bootA)...)...)
	if strings.Contains(out, "failed") {
		t.Error(out)
	}
	if got := r.mustDial(nameOf("sealed", a)).read(0, 4096); string(got) != string(sealed[:4096]) {
		t.Error("the base changed")
	}
}
