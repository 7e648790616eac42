package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// size shows a number of bytes in the largest unit that leaves a digit before the point: 1.4 MiB.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1023.95 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// count shows a number with its thousands apart: 12,345.
func count[N int | int64 | uint64](n N) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// counted shows a number with its noun: 1 file, 2 files.
func counted[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// took shows a duration as precisely as a person wants to know it: 340ms, 12.3s, 4m05s.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// age shows how long ago something was, in one unit: 45s, 12m, 5h, 9d.
func age(t, now time.Time) string {
	d := max(0, now.Sub(t))
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// moment shows a time to the second, in UTC as it is stored.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// name shows a name that was read from a backup or a disk. One that is empty, could be taken for a
// quoted one, or holds anything that a terminal would obey, is quoted as Go does.
func name[S ~string](name S) string {
	s := string(name)
	if s == "" || strings.HasPrefix(s, `"`) || escaped(s) != s {
		return strconv.Quote(s)
	}
	return s
}

// title shows the name of a snapshot in a table, and a dash for one whose name cannot be read.
func title(s string) string {
	if s == "" {
		return "-"
	}
	return name(s)
}

// wild is a name of any bytes, such as that of a file. JSON and YAML can hold any character, but nothing
// that is not UTF-8: there such a name is quoted as Go does, and so is one that could be taken for it.
type wild string

// MarshalText implements [encoding.TextMarshaler].
func (w wild) MarshalText() ([]byte, error) {
	s := string(w)
	if strings.HasPrefix(s, `"`) || !utf8.ValidString(s) {
		s = strconv.Quote(s)
	}
	return []byte(s), nil
}

// meantBy reads a name as a person gives it: as it is, or quoted as it was shown.
func meantBy(word string) (string, error) {
	if !strings.HasPrefix(word, `"`) {
		return word, nil
	}
	s, err := strconv.Unquote(word)
	if err != nil {
		return "", usage("%s begins with a quotation mark, and is not quoted as Go does", word)
	}
	return s, nil
}

// filesText tells regular files from everything that is an entry of a volume.
func filesText(regular, all int64) string {
	return fmt.Sprintf("%s of %s", counted(regular, "file"), entries(uint64(all)))
}

// escaped replaces what is not printable, invalid UTF-8 included, by Go's escapes.
func escaped(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unprintable(r):
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// unprintable tells control characters, those that change the direction of writing, and the mark of
// invalid UTF-8, from text.
func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
