package bootloader

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

// checkArgs refuses arguments that would not reach the kernel as they are written.
func (c *compiler) checkArgs(who schema.Addr, at schema.Range, args []string) {
	for _, a := range args {
		if why := checkArg(a); why != "" {
			c.refuse(at, "An argument would not reach the kernel",
				fmt.Sprintf("The argument %q of %s %s. Write it so that the kernel line can carry it.", a, who, why))
		}
	}
}

// lineTooLong refuses a kernel line of n bytes. h is the host whose arguments are
// to blame, or nil when the entry is.
func (c *compiler) lineTooLong(n int, e *schema.Entry, h *schema.Host) {
	at, who := e.At("args"), e.Addr.String()
	if h != nil {
		at, who = h.At("args"), h.Addr.String()+" with "+who
	}
	c.refuse(at, "A kernel line is too long",
		fmt.Sprintf("The kernel line of %s would have %d bytes; boot loaders cut it at about 2000 without a word, so %d are allowed. Shorten the arguments, or put settings into the image.", who, n, maxLine))
}

// tooManyWords refuses a kernel line with n words key=value, under the same terms
// as lineTooLong.
func (c *compiler) tooManyWords(n int, e *schema.Entry, h *schema.Host) {
	at, who := e.At("args"), e.Addr.String()
	if h != nil {
		at, who = h.At("args"), h.Addr.String()+" with "+who
	}
	c.refuse(at, "A kernel line has too many settings",
		fmt.Sprintf("The kernel line of %s would have %d words of the form key=value, some of them dlreconcile's own; a kernel that does not know about 30 of them panics, so %d are allowed. Those with a dot in the key do not count. Take some out, or put settings into the image.", who, n, maxUnknown))
}

// refuse notes a mistake, once for each place: several ways to boot may meet it.
func (c *compiler) refuse(r schema.Range, summary, detail string) {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail}
	if r.File != "" {
		d.Subject = new(r.HCL())
	}
	for _, have := range c.diags {
		same := have.Subject == d.Subject || have.Subject != nil && d.Subject != nil && *have.Subject == *d.Subject
		if same && have.Summary == d.Summary {
			return
		}
	}
	c.diags = append(c.diags, d)
}
