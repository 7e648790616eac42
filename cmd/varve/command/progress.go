package command

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// How often progress is told: a terminal's line is drawn again, elsewhere a line is added.
const (
	redrawEvery = 200 * time.Millisecond
	lineEvery   = 10 * time.Second
)

// progress tells on standard error how far something is, from when it starts until it is stopped.
// Counting is safe for concurrent use and costs an atomic addition.
type progress struct {
	what    string
	objects atomic.Int64
	files   atomic.Int64
	bytes   atomic.Int64       // read or written
	total   atomic.Int64       // of bytes, when it is known
	stored  func() (new int64) // bytes that were not known yet; may be nil
	phase   atomic.Pointer[string]

	out      io.Writer
	live     bool // on a terminal
	width    func() int
	started  time.Time
	finished chan struct{}
	drawn    sync.WaitGroup
}

// progress starts to tell. The caller stops it before it writes anything else.
func (a *app) progress(what string) *progress {
	fd := int(a.Stderr.Fd())
	p := &progress{what: what, out: a.Stderr, live: term.IsTerminal(fd), started: time.Now(), finished: make(chan struct{})}
	p.width = func() int {
		if w, _, err := term.GetSize(fd); err == nil && w > 0 {
			return w
		}
		return 80
	}
	p.drawn.Go(p.run)
	return p
}

func (p *progress) run() {
	every := lineEvery
	if p.live {
		every = redrawEvery
	}
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-p.finished:
			if p.live {
				fmt.Fprint(p.out, "\r\x1b[K")
			}
			return
		case now := <-ticks.C:
			p.draw(now)
		}
	}
}

func (p *progress) draw(now time.Time) {
	line := p.line(now)
	if !p.live {
		fmt.Fprintln(p.out, line)
		return
	}
	if room := p.width() - 1; len(line) > room {
		line = line[:room]
	}
	fmt.Fprint(p.out, "\r\x1b[K"+line)
}

// line is what there is to say: only counts that moved, and ASCII alone, so that a byte is a column.
func (p *progress) line(now time.Time) string {
	elapsed := now.Sub(p.started)
	said := []string{p.what}
	if phase := p.phase.Load(); phase != nil {
		said[0] += " (" + *phase + ")"
	}
	if n := p.objects.Load(); n > 0 {
		said = append(said, counted(n, "object"))
	}
	if n := p.files.Load(); n > 0 {
		said = append(said, counted(n, "file"))
	}
	if n := p.bytes.Load(); n > 0 {
		if total := p.total.Load(); total > 0 {
			said = append(said, fmt.Sprintf("%s of %s (%d %%)", size(n), size(total), 100*n/total))
		} else {
			said = append(said, size(n))
		}
		said = append(said, size(int64(float64(n)/elapsed.Seconds()))+"/s")
	}
	if p.stored != nil {
		if n := p.stored(); n > 0 {
			said = append(said, size(n)+" new")
		}
	}
	return strings.Join(append(said, took(elapsed.Truncate(time.Second))), "  ")
}

// set says how much of a known total is done.
func (p *progress) set(phase string, done, total int64) {
	p.phase.Store(&phase)
	p.bytes.Store(done)
	p.total.Store(total)
}

// stop ends the telling and clears the terminal's line.
func (p *progress) stop() {
	close(p.finished)
	p.drawn.Wait()
}
