package schema

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// The functions that compute with networks, for IPv4 and IPv6. Their numbers count
// from 0; negative ones count from the end, as in Terraform.

func number(name string) function.Parameter { return function.Parameter{Name: name, Type: cty.Number} }

var cidrHostFunc = function.New(&function.Spec{
	Params: []function.Parameter{text("prefix"), number("host")},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := parsePrefix(args[0].AsString())
		if err != nil {
			return cty.NilVal, err
		}
		n, err := bigWhole(args[1])
		if err != nil {
			return cty.NilVal, err
		}
		a, err := nth(p, p.Addr().BitLen()-p.Bits(), n)
		if err != nil {
			return cty.NilVal, fmt.Errorf("%s has no host number %s", p, n)
		}
		return cty.StringVal(a.String()), nil
	},
})

var cidrNetmaskFunc = function.New(&function.Spec{
	Params: []function.Parameter{text("prefix")},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := parsePrefix(args[0].AsString())
		if err != nil {
			return cty.NilVal, err
		}
		if !p.Addr().Is4() {
			return cty.NilVal, errors.New("only IPv4 has netmasks")
		}
		m := ^uint32(0) << (32 - p.Bits())
		if p.Bits() == 0 {
			m = 0
		}
		return cty.StringVal(netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()), nil
	},
})

var cidrSubnetFunc = function.New(&function.Spec{
	Params: []function.Parameter{text("prefix"), number("newbits"), number("netnum")},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := parsePrefix(args[0].AsString())
		if err != nil {
			return cty.NilVal, err
		}
		more, err := whole(args[1])
		if err != nil {
			return cty.NilVal, err
		}
		n, err := bigWhole(args[2])
		if err != nil {
			return cty.NilVal, err
		}
		if more < 0 || more > p.Addr().BitLen()-p.Bits() {
			return cty.NilVal, fmt.Errorf("%s cannot be made %d bits longer", p, more)
		}
		bits := p.Bits() + more
		rest := uint(p.Addr().BitLen() - bits)
		if n.Sign() < 0 {
			n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(more)))
		}
		if n.Sign() < 0 || n.BitLen() > more {
			return cty.NilVal, fmt.Errorf("%s has no subnet number %s with %d bits more", p, args[2].AsBigFloat().Text('f', 0), more)
		}
		a, err := nth(p, p.Addr().BitLen()-p.Bits(), n.Lsh(n, rest))
		if err != nil {
			return cty.NilVal, err
		}
		return cty.StringVal(netip.PrefixFrom(a, bits).String()), nil
	},
})

// nth gives the address with number n, of 2^bits that begin at p.
func nth(p netip.Prefix, bits int, n *big.Int) (netip.Addr, error) {
	n = new(big.Int).Set(n)
	if n.Sign() < 0 {
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
	}
	if n.Sign() < 0 || n.BitLen() > bits {
		return netip.Addr{}, errors.New("out of range")
	}
	raw := p.Addr().AsSlice()
	sum := new(big.Int).Add(new(big.Int).SetBytes(raw), n)
	sum.FillBytes(raw)
	a, _ := netip.AddrFromSlice(raw)
	return a, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is not a network such as 10.0.0.0/24", s)
	}
	return p.Masked(), nil
}

func bigWhole(v cty.Value) (*big.Int, error) {
	f := v.AsBigFloat()
	if !f.IsInt() || f.MantExp(nil) > 130 {
		return nil, errors.New("a whole number is needed")
	}
	n, _ := f.Int(nil)
	return n, nil
}
