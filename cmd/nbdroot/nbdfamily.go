package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// The "nbd" family, linux/nbd-netlink.h.
const (
	nbdFamilyName = "nbd"
	nbdGroupName  = "nbd_mc_group"

	cmdConnect     = 1
	cmdReconfigure = 3
	cmdLinkDead    = 4

	attrIndex           = 1
	attrSizeBytes       = 2
	attrBlockSizeBytes  = 3
	attrTimeout         = 4
	attrServerFlags     = 5
	attrClientFlags     = 6
	attrSockets         = 7
	attrDeadConnTimeout = 8

	attrSockItem = 1
	attrSockFD   = 1
)

const (
	// blockSize is the smallest there is: with 4096 the kernel cannot mount an
	// ext4 of 1 KiB blocks.
	blockSize = 512
	// requestTimeout, seconds, is how long one request may take before its
	// connection counts as dead. Requests in flight on a dead connection are
	// sent again only then, so it is also the stall after a short outage.
	requestTimeout = 5
	// deadConnTimeout, seconds, is how long the kernel holds requests while
	// there is no connection: thirty days, as good as forever.
	deadConnTimeout = 30 * 24 * 3600
)

// kernelNBD is one device of the kernel's NBD driver. One goroutine uses it.
type kernelNBD struct {
	index    uint32
	family   uint16
	requests *nlSocket
	events   *nlSocket // in the multicast group since before CONNECT
}

// openKernelNBD finds the family and subscribes to its events.
func openKernelNBD(index uint32) (*kernelNBD, error) {
	req, err := openNetlink()
	if err != nil {
		return nil, err
	}
	ev, err := openNetlink()
	if err != nil {
		req.close()
		return nil, err
	}
	k := &kernelNBD{index: index, requests: req, events: ev}
	group, err := k.resolve()
	if err == nil {
		err = ev.join(group)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *kernelNBD) close() {
	k.requests.close()
	k.events.close()
}

// resolve asks the controller for the numbers of the family and of its group.
func (k *kernelNBD) resolve() (group uint32, err error) {
	body := appendAttr(genlBody(unix.CTRL_CMD_GETFAMILY), unix.CTRL_ATTR_FAMILY_NAME, append([]byte(nbdFamilyName), 0))
	answers, err := k.requests.execute(unix.GENL_ID_CTRL, body)
	if errors.Is(err, unix.ENOENT) {
		return 0, errors.New("the kernel has no nbd netlink family: is the nbd module loaded?")
	}
	if err != nil {
		return 0, fmt.Errorf("netlink family nbd: %w", err)
	}
	for _, a := range answers {
		if k.family, group, err = parseFamily(a); err == nil {
			return group, nil
		}
	}
	return 0, fmt.Errorf("netlink family nbd: %w", errors.Join(errors.New("no usable answer"), err))
}

// parseFamily reads the controller's answer to GETFAMILY.
func parseFamily(body []byte) (family uint16, group uint32, err error) {
	_, attrs, err := splitGenl(body)
	if err != nil {
		return 0, 0, err
	}
	id := find(attrs, unix.CTRL_ATTR_FAMILY_ID)
	if len(id) != 2 {
		return 0, 0, errors.New("no family id")
	}
	groups, err := parseAttrs(find(attrs, unix.CTRL_ATTR_MCAST_GROUPS))
	if err != nil {
		return 0, 0, err
	}
	for _, g := range groups {
		one, err := parseAttrs(g.data)
		if err != nil {
			return 0, 0, err
		}
		name := string(find(one, unix.CTRL_ATTR_MCAST_GRP_NAME))
		if n, ok := u32(one, unix.CTRL_ATTR_MCAST_GRP_ID); ok && name == nbdGroupName+"\x00" {
			return nativeU16(id), n, nil
		}
	}
	return 0, 0, errors.New("no multicast group " + nbdGroupName)
}

// connect makes the device, on one connection that has passed GO. The kernel
// takes its own reference to fd; the caller closes its own.
func (k *kernelNBD) connect(e exportInfo, fd int) error {
	if _, err := k.requests.execute(k.family, connectBody(k.index, e, fd)); err != nil {
		return fmt.Errorf("nbd connect: %w", err)
	}
	return nil
}

func connectBody(index uint32, e exportInfo, fd int) []byte {
	b := genlBody(cmdConnect)
	b = appendU32(b, attrIndex, index)
	b = appendU64(b, attrSizeBytes, e.size)
	b = appendU64(b, attrBlockSizeBytes, blockSize)
	b = appendU64(b, attrTimeout, requestTimeout)
	b = appendU64(b, attrServerFlags, uint64(e.flags))
	b = appendU64(b, attrClientFlags, 0)
	b = appendSocket(b, fd)
	return appendU64(b, attrDeadConnTimeout, deadConnTimeout)
}

// settle is how long reconfigure waits when it read an event away. The kernel
// queues the event just before it marks the connection as dead, and RECONFIGURE
// must find it marked.
const settle = 20 * time.Millisecond

// reconfigure gives the device a connection in place of one that died. The
// kernel says nothing when none was dead: then it lets fd go. Events up to now are
// read away: fd is the answer to all of them.
func (k *kernelNBD) reconfigure(fd int) error {
	seen, err := k.forgetEvents()
	if err != nil {
		return err
	}
	if seen {
		time.Sleep(settle)
	}
	b := appendSocket(appendU32(genlBody(cmdReconfigure), attrIndex, k.index), fd)
	if _, err := k.requests.execute(k.family, b); err != nil {
		return fmt.Errorf("nbd reconfigure: %w", err)
	}
	return nil
}

func appendSocket(b []byte, fd int) []byte {
	item := appendNested(nil, attrSockItem, appendU32(nil, attrSockFD, uint32(fd)))
	return appendNested(b, attrSockets, item)
}

// forgetEvents reads away what is queued, and reports whether a LINK_DEAD of our
// device was, or may have been, in it.
func (k *kernelNBD) forgetEvents() (seen bool, err error) {
	for {
		ms, err := k.events.receiveFlags(unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return seen, nil
		case errors.Is(err, unix.ENOBUFS):
			seen = true
			continue
		case err != nil:
			return seen, err
		}
		for _, m := range ms {
			seen = seen || m.typ == k.family && isLinkDead(m.body, k.index)
		}
	}
}

// linkDead waits until a connection of the device has died. Lost events count as
// one, as a missing connection hangs the root. A needless one is dear, too: at GO
// the server drops the live connection of this instance, and requests in flight
// stall for requestTimeout. So there must be no second event for one death;
// reconfigure sees to that.
func (k *kernelNBD) linkDead() error {
	for {
		ms, err := k.events.receive()
		if errors.Is(err, unix.ENOBUFS) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, m := range ms {
			if m.typ == k.family && isLinkDead(m.body, k.index) {
				return nil
			}
		}
	}
}

// isLinkDead tells a LINK_DEAD event of our device from everything else that the
// group carries.
func isLinkDead(body []byte, index uint32) bool {
	cmd, attrs, err := splitGenl(body)
	if err != nil || cmd != cmdLinkDead {
		return false
	}
	n, ok := u32(attrs, attrIndex)
	return ok && n == index
}
