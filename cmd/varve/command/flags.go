package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/varve-dev/varve/repo/seal"
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

const (
	day     = 24 * time.Hour
	maxSpan = 100 * 365 * day
)

// parseSpan reads a duration as people write it: 90m, 12h, 7d, 2w, 1y, or several units, the largest
// first. A day is 24 hours and a year 365 days. Beyond maxSpan it does not matter by how much.
func parseSpan(s string) (span time.Duration, err error) {
	rest := s
	for _, unit := range []struct {
		letter string
		length time.Duration
	}{{"y", 365 * day}, {"w", 7 * day}, {"d", day}} {
		number, after, found := strings.Cut(rest, unit.letter)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return 0, badSpan(s)
		}
		if n > uint64(maxSpan/unit.length) || span > maxSpan {
			return maxSpan + 1, nil
		}
		span, rest = span+time.Duration(n)*unit.length, after
	}
	if rest == "" && s != "" {
		return span, nil
	}
	hours, err := time.ParseDuration(rest)
	switch {
	case err != nil:
		return 0, badSpan(s)
	case hours < 0:
		return 0, fmt.Errorf("%q is in the past", s)
	}
	return min(span, maxSpan+1) + min(hours, maxSpan+1), nil
}

func badSpan(s string) error { return fmt.Errorf("%q is no duration such as 12h, 7d, 2w or 1y", s) }

// lifetime is a flag for how long a backup is kept. Zero is for ever.
type lifetime time.Duration

const never = "never"

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
	d, err := parseSpan(s)
	switch {
	case err != nil:
		return err
	case d == 0:
		d = defaultTTL // as Ark takes it; for ever must be said
	case d > maxSpan:
		return fmt.Errorf("%q is more than 100 years; say never", s)
	}
	*l = lifetime(d)
	return nil
}

// span is a flag for a duration of at most a hundred years.
type span time.Duration

// String implements pflag.Value.
func (d *span) String() string {
	if *d == 0 {
		return "0"
	}
	return strings.TrimSuffix(strings.TrimSuffix(time.Duration(*d).String(), "0s"), "0m")
}

// Type implements pflag.Value.
func (d *span) Type() string { return "DURATION" }

// Set implements pflag.Value.
func (d *span) Set(s string) error {
	parsed, err := parseSpan(s)
	if err == nil && parsed > maxSpan {
		err = fmt.Errorf("%q is more than 100 years", s)
	}
	*d = span(parsed)
	return err
}

// percent is a flag for a share, written as 50 or 50%.
type percent float64

// String implements pflag.Value.
func (p *percent) String() string { return strconv.FormatFloat(100*float64(*p), 'g', 6, 64) + "%" }

// Type implements pflag.Value.
func (p *percent) Type() string { return "PERCENT" }

// Set implements pflag.Value.
func (p *percent) Set(s string) error {
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !(n >= 0 && n <= 100) {
		return fmt.Errorf("%q is no share from 0 to 100%%", s)
	}
	*p = percent(n / 100)
	return nil
}

// number is a flag for a count, which may be zero.
type number int

// String implements pflag.Value.
func (n *number) String() string { return strconv.Itoa(int(*n)) }

// Type implements pflag.Value.
func (n *number) Type() string { return "N" }

// Set implements pflag.Value.
func (n *number) Set(s string) error {
	parsed, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("%q is no number", s)
	}
	*n = number(parsed)
	return nil
}

// cutPair takes OLD:NEW apart.
func cutPair(s string) (from, to string, ok bool) {
	from, to, ok = strings.Cut(s, ":")
	return from, to, ok && from != "" && to != "" && !strings.Contains(to, ":")
}

// fingerprint is a flag for that of a master key.
type fingerprint string

// String implements pflag.Value.
func (f *fingerprint) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *fingerprint) Type() string { return "FINGERPRINT" }

// Set implements pflag.Value. What is empty is refused, since it would compare nothing.
func (f *fingerprint) Set(s string) error {
	text, err := seal.ParseFingerprint(s)
	*f = fingerprint(text)
	return err
}
