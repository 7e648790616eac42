package command

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo/storage/dial"
	"github.com/varve-dev/varve/repo/storage/limit"
	"github.com/varve-dev/varve/repo/storage/retry"
)

// lineFlags say how a store is asked: how much at once, how fast, and for how long if it does not answer.
type lineFlags struct {
	up, down bandwidth
	requests number
	patience span
}

func (f *lineFlags) add(c *cobra.Command) {
	flags := c.PersistentFlags()
	f.requests, f.patience = 64, span(5*time.Minute)
	flags.Var(&f.up, "limit-upload", "send at most this much a second to a store in the network: 512K, 10M, 1.5G")
	flags.Var(&f.down, "limit-download", "receive at most this much a second from a store in the network")
	flags.Var(&f.requests, "max-requests", "have at most `N` requests to the store under way at once; fewer as soon as it throttles")
	flags.Var(&f.patience, "retry-for", "for how long a request is repeated that the store does not answer: 30s, 5m, 2h")
}

// dial opens the bucket at a URL, and what stands before it.
func (a *app) dial(ctx context.Context, url string, o dial.Options) (*dial.Line, error) {
	f := &a.repository.line
	if f.requests < 1 {
		return nil, usage("--max-requests %d: at least 1 is needed", f.requests)
	}
	if f.patience < span(time.Second) {
		return nil, usage("--retry-for %v: at least a second is needed", &f.patience)
	}
	o.Credentials = storeCredentials
	o.Conn = limit.NewBandwidth(int64(f.up), int64(f.down)).Conn
	b, err := a.Dial(ctx, url, o)
	if err != nil {
		return nil, misnamed(url, refused(err))
	}
	return dial.NewLine(b, dial.LineOptions{
		Retry: retry.Options{Budget: time.Duration(f.patience), Waiting: a.waits()},
		Limit: limit.Options{Requests: int(f.requests)},
	}), nil
}

// When it is told that a store does not answer: not of what passes by itself at once, and not of every pause.
const (
	silentFor = 5 * time.Second
	tellEvery = 30 * time.Second
)

// waits returns what tells that a store is waited for: the live line if there is one, else a warning now and then.
func (a *app) waits() func(retry.Wait) {
	var mu sync.Mutex
	var told time.Time
	return func(w retry.Wait) {
		if w.Since+w.Pause < silentFor {
			return
		}
		if p := a.telling.Load(); p != nil && p.live {
			p.hold(w)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(told) >= tellEvery {
			told = now
			a.warn("%s: %v", held(w), w.Cause)
		}
	}
}

func held(w retry.Wait) string {
	return fmt.Sprintf("the store has not answered for %s and is asked again", took(w.Since.Round(time.Second)))
}

// bandwidth is a flag for bytes per second. Zero is no limit.
type bandwidth int64

// String implements pflag.Value.
func (b *bandwidth) String() string {
	if *b == 0 {
		return "0"
	}
	return size(int64(*b)) + "/s"
}

// Type implements pflag.Value.
func (b *bandwidth) Type() string { return "RATE" }

// Set implements pflag.Value. A number without a unit is refused: other programs mean KiB by it, and some bytes.
func (b *bandwidth) Set(s string) error {
	word := strings.TrimSuffix(strings.ToUpper(s), "/S")
	word = strings.TrimSuffix(strings.TrimSuffix(word, "B"), "I")
	unit := int64(1)
	if i := len(word) - 1; i > 0 {
		if shift := strings.IndexByte("KMGT", word[i]); shift >= 0 {
			word, unit = word[:i], 1<<(10*(shift+1))
		}
	}
	n, err := strconv.ParseFloat(word, 64)
	switch {
	case err != nil || !(n >= 0 && n*float64(unit) < 1<<50):
		return fmt.Errorf("%q is no rate such as 512K, 10M or 1.5G, in bytes per second", s)
	case n > 0 && unit == 1:
		return fmt.Errorf("%q has no unit: say %sK or %sM", s, word, word)
	}
	*b = bandwidth(n * float64(unit))
	return nil
}
