package main

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// perfDHCP is ISC's load generator, as a relay agent at an address. It runs again and
// again for perfTime, because one that is interrupted counts what is on its way as lost.
type perfDHCP struct {
	relay, server string
	rate, clients int
	dropped       func() (int, error) // packets that came to its socket when the buffer was full

	offers, acks perfCounts
	lost         int // what dropped said
}

// perfCounts are those of DISCOVERs and OFFERs, or of REQUESTs and ACKs.
type perfCounts struct{ sent, drops int }

// perfTime is how long it runs, and then it waits for what is on its way: for as long
// as an answer may take, because it counts what it does not wait for as lost.
const (
	perfTime = 10 * time.Second
	perfRest = dhcpUnanswered
)

var perfLine = regexp.MustCompile(`(?m)^(sent packets|drops): +([0-9]+)`)

func (p *perfDHCP) run(over <-chan struct{}) error {
	patience := strconv.Itoa(int(dhcpUnanswered / time.Second)) // for an OFFER, and for an ACK
	for seed := 1; ; seed++ {
		select {
		case <-over:
			return nil
		default:
		}
		cmd := exec.Command("perfdhcp", "-4", "-l", p.relay, "-r", strconv.Itoa(p.rate), "-R", strconv.Itoa(p.clients),
			"-p", strconv.Itoa(int(perfTime/time.Second)), "-W", strconv.FormatInt(perfRest.Microseconds(), 10),
			"-d", patience, "-d", patience, "-s", strconv.Itoa(seed), p.server)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			return err
		}
		lost := 0
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		look := time.NewTicker(100 * time.Millisecond)
		for waits := true; waits; {
			select {
			case <-ended: // its exit code only says whether there were drops
				waits = false
			case <-look.C:
				n, err := p.dropped()
				if err != nil {
					return errors.Join(err, <-ended)
				}
				lost = max(lost, n)
			}
		}
		look.Stop()
		p.lost += lost
		parts := strings.Split(out.String(), "***Statistics for: ")
		if len(parts) != 3 {
			return fmt.Errorf("perfdhcp: %s", out.String())
		}
		for i, c := range []*perfCounts{&p.offers, &p.acks} {
			for _, m := range perfLine.FindAllStringSubmatch(parts[i+1], -1) {
				n, err := strconv.Atoi(m[2])
				if err != nil {
					return err
				}
				if m[1] == "drops" {
					c.drops += n
				} else {
					c.sent += n
				}
			}
		}
	}
}

func (p *perfDHCP) String() string {
	return fmt.Sprintf("%d DISCOVERs, %d of them unanswered; %d REQUESTs, %d of them unanswered; %d packets were dropped at its own socket",
		p.offers.sent, p.offers.drops, p.acks.sent, p.acks.drops, p.lost)
}
