package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"sync"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Command prepares a program to run inside the lab's namespace, as
// exec.CommandContext does. It keeps its process number through ip(8), sees the
// namespace's /sys, and is killed when this process dies or the lab is closed.
// The caller starts it and waits for it.
func (l *Lab) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return l.ns.command(ctx, name, args...)
}

// ClientInterface is the name of a client's one network device.
const ClientInterface = "eth0"

// ClientConfig says what a client is like.
type ClientConfig struct {
	Name string       // for people
	MAC  provider.MAC // of its network device; zero lets the kernel choose
}

// ClientNS is a namespace of its own, cabled to the lab's bridge: the place for
// foreign clients such as udhcpc or curl. Its device is up and has no IPv4 address.
// It is safe for concurrent use.
type ClientNS struct {
	lab  *Lab
	ns   namespace
	mac  provider.MAC
	once sync.Once
	err  error
}

// Client adds a client. ctx bounds the call. The lab's Close closes it, if nobody
// did before.
func (l *Lab) Client(ctx context.Context, c ClientConfig) (_ *ClientNS, err error) {
	end, err := l.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	ns, err := addNamespace(ctx, l.ns.name+"-client-"+clean(c.Name))
	if err != nil {
		return nil, fmt.Errorf("client %s: %w", c.Name, err)
	}
	client := &ClientNS{lab: l, ns: ns}
	l.mu.Lock()
	l.clients[client] = struct{}{}
	l.mu.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("client %s: %w", c.Name, errors.Join(err, client.Close()))
		}
	}()
	peer := "type veth peer name " + ClientInterface
	if !c.MAC.IsZero() {
		peer += " address " + c.MAC.String()
	}
	port := l.port("veth")
	if err := l.ns.setup(ctx,
		"link add "+port+" "+peer+" netns "+ns.name,
		"link set "+port+" master "+Bridge+" addrgenmode none up",
	); err != nil {
		return nil, err
	}
	if err := ns.setup(ctx, "link set lo up", "link set "+ClientInterface+" up"); err != nil {
		return nil, err
	}
	return client, ns.do(func() error {
		ifi, err := net.InterfaceByName(ClientInterface)
		if err != nil {
			return err
		}
		if len(ifi.HardwareAddr) != len(client.mac) {
			return fmt.Errorf("%s has the hardware address %v", ClientInterface, ifi.HardwareAddr)
		}
		client.mac = provider.MAC(ifi.HardwareAddr)
		return nil
	})
}

// MAC is the address of the client's device.
func (c *ClientNS) MAC() provider.MAC { return c.mac }

// Namespace is the name of the client's network namespace.
func (c *ClientNS) Namespace() string { return c.ns.name }

// Command is Lab.Command for the client's namespace.
func (c *ClientNS) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return c.ns.command(ctx, name, args...)
}

// Do is Lab.Do for the client's namespace.
func (c *ClientNS) Do(fn func() error) error { return c.ns.do(fn) }

// Close ends every process in the client's namespace and removes it. Idempotent.
func (c *ClientNS) Close() error {
	c.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), removeTime)
		defer cancel()
		c.err = c.ns.remove(ctx)
		c.lab.mu.Lock()
		delete(c.lab.clients, c)
		c.lab.mu.Unlock()
	})
	return c.err
}
