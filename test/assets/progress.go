package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// progress shows on standard error how far a long step is: one line that is rewritten on a terminal,
// and elsewhere a plain line from time to time.
type progress struct {
	title    string
	terminal bool
	started  time.Time
	quit     chan struct{}
	ended    sync.WaitGroup

	mu          sync.Mutex
	done, total int
	unit        string
}

// plainEvery is the time between two lines where nobody can rewrite one.
const plainEvery = 15 * time.Second

func startProgress(title string) *progress {
	p := &progress{title: title, started: time.Now(), quit: make(chan struct{})}
	if info, err := os.Stderr.Stat(); err == nil {
		p.terminal = info.Mode()&os.ModeCharDevice != 0
	}
	every := plainEvery
	if p.terminal {
		every = 200 * time.Millisecond
	}
	p.ended.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		p.show()
		for {
			select {
			case <-tick.C:
				p.show()
			case <-p.quit:
				p.show()
				if p.terminal {
					fmt.Fprintln(os.Stderr)
				}
				return
			}
		}
	})
	return p
}

// set tells how much is done, and of how much where that is known.
func (p *progress) set(done, total int, unit string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.total, p.unit = done, total, unit
}

// end shows the last state and waits until it is written.
func (p *progress) end() {
	close(p.quit)
	p.ended.Wait()
}

func (p *progress) show() {
	p.mu.Lock()
	line := p.title
	switch {
	case p.unit == "":
		line += ": counting packages"
	case p.total == 0:
		line += fmt.Sprintf(": %d %s", p.done, p.unit)
	case p.done >= p.total-1: // the last is the program itself
		line += ": linking"
	default:
		line += fmt.Sprintf(": %d of %d %s", p.done, p.total, p.unit)
	}
	p.mu.Unlock()
	line += ", " + time.Since(p.started).Round(time.Second).String()
	if p.terminal {
		fmt.Fprintf(os.Stderr, "\r\033[K%s", line)
	} else {
		fmt.Fprintln(os.Stderr, line)
	}
}
