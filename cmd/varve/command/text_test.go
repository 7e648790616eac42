package command

import (
	"encoding/json"
	"testing"
	"time"
)

func TestNamesCannotMoveTheCursor(t *testing.T) {
	for in, want := range map[string]string{
		"plain name.txt":      "plain name.txt",
		"ungewöhnlich ✓":      "ungewöhnlich ✓",
		"":                    `""`,
		"\x1b[2Jgone":         `"\x1b[2Jgone"`,
		"line\nbreak\tand":    `"line\nbreak\tand"`,
		"csi \u009b31m":       `"csi \u009b31m"`,
		"right \u202eto left": `"right \u202eto left"`,
		"bad \xff":            `"bad \xff"`,
		`"quoted"`:            `"\"quoted\""`,
	} {
		if got := name(in); got != want {
			t.Errorf("name(%q) = %s, want %s", in, got, want)
		}
	}
	if got, want := printable("one\ntwo \x1b]0;x\a \xff"), "one\ntwo \\x1b]0;x\\a \\xff"; got != want {
		t.Errorf("printable = %q, want %q", got, want)
	}
}

func TestNamesOfAnyBytesComeThroughJSON(t *testing.T) {
	for _, in := range []string{"plain", "bad \xff", `"quoted"`, "", "line\nbreak", "\ufffd"} {
		text, err := json.Marshal(wild(in))
		if err != nil {
			t.Fatal(err)
		}
		var word string
		if err := json.Unmarshal(text, &word); err != nil {
			t.Fatal(err)
		}
		for _, shown := range []string{word, name(in)} {
			if in == "" {
				continue // no address and no name is empty
			}
			if got, err := meantBy(shown); got != in || err != nil {
				t.Errorf("%q is shown as %s, which means %q, %v", in, shown, got, err)
			}
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 5 << 40: "5.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		3 * time.Millisecond: "3ms", 12340 * time.Millisecond: "12.3s", 245 * time.Second: "4m05s", 2*time.Hour + 5*time.Minute: "2h05m",
	} {
		if got := took(d); got != want {
			t.Errorf("took(%v) = %s, want %s", d, got, want)
		}
	}
}
