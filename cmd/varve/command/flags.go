package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// choice is a flag that takes one of some words. Its zero value is the first.
type choice struct {
	words []string
	at    int
}

// String implements pflag.Value.
func (c *choice) String() string {
	if len(c.words) == 0 {
		return ""
	}
	return c.words[c.at]
}

// Type implements pflag.Value.
func (c *choice) Type() string { return "WORD" }

func (c *choice) choices() []string { return c.words }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	for i, word := range c.words {
		if strings.EqualFold(s, word) {
			c.at = i
			return nil
		}
	}
	return fmt.Errorf("there are %s", strings.Join(c.words, ", "))
}

// lifetime is a flag for how long a backup is kept: a duration with hours as its largest unit, or a
// number of days. Zero is for ever.
type lifetime time.Duration

const (
	never       = "never"
	maxLifetime = 100 * 365 * 24 * time.Hour
)

// String implements pflag.Value.
func (l *lifetime) String() string {
	if *l == 0 {
		return never
	}
	return strings.TrimSuffix(strings.TrimSuffix(time.Duration(*l).String(), "0s"), "0m")
}

// Type implements pflag.Value.
func (l *lifetime) Type() string { return "DURATION" }

// Set implements pflag.Value.
func (l *lifetime) Set(s string) error {
	if s == never {
		*l = 0
		return nil
	}
	var d time.Duration
	days, isDays := strings.CutSuffix(s, "d")
	if n, err := strconv.Atoi(days); isDays && err == nil && n < 36_501 {
		d = time.Duration(n) * 24 * time.Hour
	} else if d, err = time.ParseDuration(s); err != nil {
		return fmt.Errorf("%q is no duration such as 720h or 30d", s)
	}
	switch {
	case d == 0:
		d = defaultTTL // as Ark takes it; for ever must be said
	case d < 0:
		return fmt.Errorf("%q is in the past", s)
	case d > maxLifetime:
		return fmt.Errorf("%q is more than 100 years; say never", s)
	}
	*l = lifetime(d)
	return nil
}

// cutPair takes OLD:NEW apart.
func cutPair(s string) (from, to string, ok bool) {
	from, to, ok = strings.Cut(s, ":")
	return from, to, ok && from != "" && to != "" && !strings.Contains(to, ":")
}
