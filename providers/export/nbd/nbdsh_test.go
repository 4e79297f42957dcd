package nbd

import (
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// Each script is a foreign client that goes wrong where the protocol lets it, and
// checks what it is told.
func TestNbdsh(t *testing.T) {
	providertest.Need(t, "nbdsh")
	const prelude = `
import errno, os
uri = os.environ["NBD_TEST_URI"]
def fails(want, f, *a, **k):
    try:
        f(*a, **k)
    except nbd.Error as e:
        assert e.errnum == want, (e.errnum, want, str(e))
        return
    assert False, "no error"
def attach(name):
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(uri + name)
    h.set_strict_mode(0)
`
	for name, script := range map[string]string{
		"options": `
h.set_opt_mode(True)
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri(uri)
names = []
assert h.opt_list(lambda n, d: names.append(n)) == len(names)
assert names == ["ro", "rw"], names
for bad in ["zzz", "secret", "x" * 4096]:
    h.set_export_name(bad)
    fails(errno.ENOENT, h.opt_info)
    fails(errno.ENOENT, h.opt_go)
h.set_export_name("ro")
h.opt_info()
assert h.get_size() == 1 << 20 and h.is_read_only()
contexts = []
h.opt_list_meta_context(lambda c: contexts.append(c))
assert contexts == ["base:allocation"], contexts
h.set_export_name("rw")
h.opt_go()
assert h.get_size() == 8 << 20 and not h.is_read_only() and h.can_fast_zero() and h.can_cache() and h.can_df()
assert h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.shutdown()
`, "abort": `
h.set_opt_mode(True)
h.connect_uri(uri)
h.opt_abort()
`, "transmission": `
attach("rw")
size = h.get_size()
h.pwrite(b"abcd", 510, nbd.CMD_FLAG_FUA)
assert h.pread(4, 510) == b"abcd"
assert h.pread(4 << 20, 0, nbd.CMD_FLAG_DF)[510:514] == b"abcd"
h.zero(4, 510, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(4, 510) == bytes(4)
fails(errno.ENOTSUP, h.zero, 512, 0, nbd.CMD_FLAG_FAST_ZERO)
h.trim(512, 0, nbd.CMD_FLAG_FUA)
h.cache(512, 0)
h.flush()
fails(errno.EINVAL, h.pread, 2, size - 1)
fails(errno.ENOSPC, h.pwrite, b"ab", size - 1)
fails(errno.ENOSPC, h.zero, 2, size - 1)
fails(errno.EINVAL, h.trim, 2, size - 1)
fails(errno.EINVAL, h.cache, 2, size - 1)
fails(errno.EINVAL, h.pread, 512, 0, 1 << 15)
seen = []
h.block_status(size, 0, lambda c, o, e, err: seen.append((c, o, list(e))))
assert seen == [("base:allocation", 0, [size, 0])], seen
fails(errno.EINVAL, h.block_status, 2, size - 1, lambda *a: 0)
assert h.pread(4, 0) == bytes(4)
h.shutdown()
`, "read-only": `
attach("ro")
fails(errno.EPERM, h.pwrite, b"ab", 0)
fails(errno.EPERM, h.zero, 2, 0)
fails(errno.EPERM, h.trim, 2, 0)
assert h.pread(2, 0) == bytes(2)
h.shutdown()
`, "simple replies": `
h.set_request_structured_replies(False)
h.connect_uri(uri + "rw")
h.set_strict_mode(0)
assert not h.get_structured_replies_negotiated() and not h.can_df() and not h.can_cache()
assert h.pread(2 << 20, 0) == bytes(2 << 20)
fails(errno.EINVAL, h.pread, 2, h.get_size() - 1)
h.shutdown()
`,
	} {
		t.Run(name, func(t *testing.T) {
			addr := serveSecured(t, testShelf(), Security{}, "tcp4", "127.0.0.1:0")
			t.Setenv("PATH", "/usr/bin:/bin") // the Python that the package nbd was made for
			t.Setenv("NBD_TEST_URI", "nbd://"+addr.String()+"/")
			foreign(t, true, "nbdsh", "-c", prelude, "-c", script)
		})
	}
}
