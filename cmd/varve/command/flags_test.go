package command

import (
	"strings"
	"testing"
	"time"
)

func TestSpansAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0d": 0, "90m": 90 * time.Minute, "720h": 30 * day, "7d": 7 * day, "2w": 14 * day, "1y": 365 * day, "100y": maxSpan,
		"1y2w3d4h30m": (365+14+3)*day + 4*time.Hour + 30*time.Minute, "1w12h": 7*day + 12*time.Hour,
	} {
		if got, err := parseSpan(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"101y", "99999999d", "4294967295w", "100y100d", "100y100w", "100y100w36500d", "2000000h", "100y2000000h", "100y1h"} {
		if got, err := parseSpan(text); err != nil || got <= maxSpan {
			t.Errorf("%q is %v, %v; want more than 100 years", text, got, err)
		}
	}
	for _, text := range []string{"", "5x", "d", "-7d", "7", "1d2w", "7d7", "1.5d", "7d ", "99999999999999999999d"} {
		if got, err := parseSpan(text); err == nil || !strings.Contains(err.Error(), "no duration such as") {
			t.Errorf("%q is %v, %v; want a refusal", text, got, err)
		}
	}
	if _, err := parseSpan("-5h"); err == nil || !strings.Contains(err.Error(), "in the past") {
		t.Errorf("-5h: %v", err)
	}
}
