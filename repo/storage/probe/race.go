package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

const (
	raceBytes = 1000 // what racing writers write: a small journal entry
	tries     = 3    // how often a race is run of which nobody knows the winner
)

// taken creates a name that is taken.
func (p *prober) taken(ctx context.Context) (string, error) {
	name, first := p.folder+"taken", written(0, raceBytes)
	// A first request whose answer was lost on the way, and which was repeated, is refused by itself.
	if err := p.create(ctx, name, first); err != nil && !errors.Is(err, storage.ErrExists) {
		return "", unsupported(err)
	}
	p.nothing = false
	for again := range 2 { // with other bytes each time: a repeated request may find the same ones and call them its own
		err := p.create(ctx, name, written(1+again, raceBytes))
		if err == nil {
			p.overwrites = true
			return "", seen(ConditionIgnored, "an object was created over one that was there")
		}
		if !errors.Is(err, storage.ErrExists) {
			return "", unsupported(err)
		}
	}
	got, err := p.get(ctx, name, 0, -1)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(got, first) {
		return "", seen(RefusedAndWritten, "the object changed, though the second create of its name was refused")
	}
	return "a name that is taken is refused, and its object stays as it was", nil
}

// unsupported tells a store that does not know conditional creates from one that did not answer.
func unsupported(err error) error {
	if errors.Is(err, storage.ErrUnsupported) {
		return &flaw{ConditionUnsupported, err.Error(), err}
	}
	return err
}

// races lets writers race for one name after the other.
func (p *prober) races(ctx context.Context) (string, error) {
	n := rounds
	if p.options.Quick {
		n = quickRounds
	}
	defer func() { p.lastRace = time.Now() }()
	for round := range n {
		if err := p.race(ctx, fmt.Sprintf("%srace/%d", p.folder, round), writers); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("in %d races of %d writers one won each, and what it wrote is there", n, writers), nil
}

// race lets writers race for a name until one is told that it has won. Who wins and loses the answer on the
// way tries again, is refused by its own object, and then nobody knows of a winner: that says nothing
// against the store unless it happens again and again.
func (p *prober) race(ctx context.Context, name string, writers int) (err error) {
	for try := range tries {
		err = p.raceOnce(ctx, fmt.Sprintf("%s-%d", name, try), writers)
		if f, flawed := errors.AsType[*flaw](err); !flawed || f.fault != NobodyWins {
			break
		}
	}
	return err
}

// raceOnce lets writers create one name at once. One must win, and its bytes must be there.
func (p *prober) raceOnce(ctx context.Context, name string, writers int) error {
	answers := make([]error, writers)
	start := make(chan struct{})
	var running sync.WaitGroup
	for w := range writers {
		data := written(w, raceBytes)
		running.Go(func() {
			<-start
			answers[w] = p.create(ctx, name, data)
		})
	}
	close(start)
	running.Wait()

	winners, silent := 0, []int(nil) // the latter got no certain answer
	winner := -1
	for w, err := range answers {
		switch {
		case err == nil:
			winners++
			winner = w
		case !errors.Is(err, storage.ErrExists):
			silent = append(silent, w)
		}
	}
	if winners > 1 {
		return seen(TwoWinners, "%d of %d writers of one name were told that they had created it", winners, writers)
	}
	stands, err := p.author(ctx, name, writers)
	switch {
	case errors.Is(err, storage.ErrNotFound) && winners == 1:
		return seen(StaleReads, "a writer was told that it had won, and its object is not found")
	case errors.Is(err, storage.ErrNotFound) && len(silent) > 0:
		return unsupported(answers[silent[0]])
	case errors.Is(err, storage.ErrNotFound):
		return seen(NobodyWins, "all of %d writers of one name were refused, and no object is there", writers)
	case err != nil:
		return err
	case winners == 1 && stands != winner:
		return seen(WinnerReplaced, "a writer was told that it had won, and the object is that of another")
	case winners == 0 && !slices.Contains(silent, stands):
		return seen(NobodyWins, "all of %d writers of one name were refused, and the object of one is there", writers)
	}
	if len(silent) == writers { // one was stored and nobody was refused: this shows nothing
		return answers[silent[0]]
	}
	p.raced[name] = written(stands, raceBytes)
	return p.late(ctx, name, writers)
}

// late creates the name of a race that is over.
func (p *prober) late(ctx context.Context, name string, writers int) error {
	err := p.create(ctx, name, written(writers, raceBytes))
	if err == nil {
		return seen(ConditionIgnored, "an object was created over the winner of a race")
	}
	if !errors.Is(err, storage.ErrExists) {
		return err
	}
	return nil
}

// author returns the number of the writer whose bytes an object has.
func (p *prober) author(ctx context.Context, name string, writers int) (int, error) {
	got, err := p.bucket.Get(ctx, name, 0, -1)
	if err != nil {
		return 0, err
	}
	for w := range writers {
		if bytes.Equal(got, written(w, raceBytes)) {
			return w, nil
		}
	}
	return 0, seen(AlteredBytes, "after a race the object has %d bytes that no writer wrote", len(got))
}

// settled reads the winners of the races once more, some time after the last of them.
func (p *prober) settled(ctx context.Context) (string, error) {
	if len(p.raced) == 0 {
		return "", untold("no race had a winner")
	}
	timer := time.NewTimer(max(0, time.Until(p.lastRace.Add(p.options.Settle))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	for name, want := range p.raced {
		got, err := p.bucket.Get(ctx, name, 0, -1)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return "", err
		}
		if !bytes.Equal(got, want) {
			return "", seen(WinnerReplaced, "some seconds after a race the object of its winner was another or gone")
		}
	}
	return fmt.Sprintf("%v after the last race every winner is still there", p.options.Settle), nil
}
