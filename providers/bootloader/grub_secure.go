package bootloader

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// maxNamed is how many machines a diagnostic names.
const maxNamed = 20

// unsignedKernel is a kernel that firmware with Secure Boot refuses, although the
// bootloader is for such firmware.
type unsignedKernel struct{ boot, image schema.Addr }

// unsignedImages lists the images of an offer's choices whose kernels carry no
// signature.
func (c *compiler) unsignedImages(o *offer) []schema.Addr {
	var list []schema.Addr
	for _, ch := range o.choices {
		image := ch.entry.Image
		if a := c.in.Built[image].Artifact; a != nil && !a.Signed && !slices.Contains(list, image) {
			list = append(list, image)
		}
	}
	return list
}

// meetUnsigned notes whom the unsigned kernels of an offer concern: a host, or, when
// h is nil, the machines of a subnet that have no host block.
func (c *compiler) meetUnsigned(o *offer, h *schema.Host, s *schema.Subnet) {
	who := "machines on " + s.Addr.String() + " without a host block"
	if h != nil {
		who = h.Addr.String()
	}
	for _, image := range o.unsigned {
		key := unsignedKernel{o.boot.Addr, image}
		if c.unsigned[key] == nil {
			c.unsigned[key] = map[string]bool{}
		}
		c.unsigned[key][who] = true
	}
}

// refuseUnsigned refuses the unsigned kernels that were met.
func (c *compiler) refuseUnsigned() {
	keys := slices.SortedFunc(maps.Keys(c.unsigned), func(a, b unsignedKernel) int {
		return cmp.Or(a.boot.Compare(b.boot), a.image.Compare(b.image))
	})
	for _, k := range keys {
		who := slices.Sorted(maps.Keys(c.unsigned[k]))
		named := strings.Join(who[:min(len(who), maxNamed)], ", ")
		if more := len(who) - maxNamed; more > 0 {
			named += fmt.Sprintf(" and %d more", more)
		}
		c.refuse(c.boots[k.boot].At("secure_boot"), fmt.Sprintf("The kernel of %s is not signed", k.image),
			fmt.Sprintf("%s has secure_boot = true, and firmware with Secure Boot starts signed kernels only. That of %s carries no signature, and would be booted by %s. Put a signed kernel into the image (Debian's linux-image-amd64 is one, packages named …-unsigned are not), or take secure_boot away.",
				k.boot, k.image, named))
	}
}
