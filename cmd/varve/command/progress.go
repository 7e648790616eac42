package command

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/varve-dev/varve/repo/storage/retry"
)

// How often progress is told: a terminal's line is drawn again, elsewhere a line is added.
const (
	redrawEvery = 200 * time.Millisecond
	lineEvery   = 10 * time.Second
)

// progress tells on standard error how far something is, from when it starts until it is stopped.
type progress struct {
	out     io.Writer
	live    bool // on a terminal
	width   func() int
	started time.Time
	ended   func()
	drawn   sync.WaitGroup

	mu       sync.Mutex
	finished chan struct{} // nil when it was stopped
	now      standing
}

// standing is how far something is. What is zero is not spoken of.
type standing struct {
	what    string // backup, volume data, check
	objects int64
	files   int64
	bytes   int64  // of these
	read    int64  // bytes read so far: more than bytes while a large file is read, less when files are known
	total   int64  // that bytes will be in the end, as far as is known
	fresh   int64  // bytes that the repository did not have
	waiting string // why it does not go on

	held      string        // by whom, for a while
	heldUntil time.Duration // from the beginning
}

// progress starts to tell. The caller stops it before it writes anything else.
func (a *app) progress(what string) *progress {
	fd := int(a.Stderr.Fd())
	p := &progress{out: a.Stderr, live: term.IsTerminal(fd), started: time.Now(), finished: make(chan struct{}), now: standing{what: what}}
	p.width = func() int {
		if w, _, err := term.GetSize(fd); err == nil && w > 0 {
			return w
		}
		return 80
	}
	finished := p.finished
	p.ended = func() { a.telling.CompareAndSwap(p, nil) }
	a.telling.Store(p)
	p.drawn.Go(func() { p.run(finished) })
	return p
}

// hold tells for a while that a store is waited for.
func (p *progress) hold(w retry.Wait) {
	p.update(func(s *standing) { s.held, s.heldUntil = held(w), time.Since(p.started)+w.Pause+redrawEvery })
}

// update changes what is told. It may be called by many goroutines.
func (p *progress) update(change func(*standing)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.now)
}

// stop ends the telling and clears the terminal's line. Only the first call does anything.
func (p *progress) stop() {
	p.mu.Lock()
	if p.finished != nil {
		close(p.finished)
		p.finished = nil
		p.ended()
	}
	p.mu.Unlock()
	p.drawn.Wait()
}

func (p *progress) run(finished <-chan struct{}) {
	every := lineEvery
	if p.live {
		every = redrawEvery
	}
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-finished:
			if p.live {
				fmt.Fprint(p.out, "\r\x1b[K")
			}
			return
		case now := <-ticks.C:
			p.draw(now.Sub(p.started))
		}
	}
}

func (p *progress) draw(elapsed time.Duration) {
	p.mu.Lock()
	line := []rune(p.now.line(elapsed))
	p.mu.Unlock()
	if !p.live {
		fmt.Fprintln(p.out, string(line))
		return
	}
	line = line[:min(len(line), p.width()-1)] // a longer one would not be cleared as a whole
	fmt.Fprint(p.out, "\r\x1b[K"+string(line))
}

func (s standing) line(elapsed time.Duration) string {
	said := []string{s.what + " " + elapsed.Truncate(time.Second).String()}
	if s.objects > 0 {
		said = append(said, counted(s.objects, "object"))
	}
	if s.files > 0 {
		said = append(said, counted(s.files, "file"))
	}
	if done := max(s.bytes, s.read); done > 0 {
		amount := size(done)
		if s.total >= done {
			amount += fmt.Sprintf(" of %s (%d %%)", size(s.total), 100*done/s.total)
		}
		said = append(said, amount)
		if s.fresh > 0 {
			said = append(said, size(s.fresh)+" new")
		}
		if elapsed >= time.Second {
			said = append(said, size(int64(float64(done)/elapsed.Seconds()))+"/s")
		}
	}
	if s.held != "" && elapsed < s.heldUntil {
		said = append(said, s.held)
	}
	if s.waiting != "" {
		said = append(said, "waiting: "+escaped(s.waiting))
	}
	return strings.Join(said, "  ")
}
