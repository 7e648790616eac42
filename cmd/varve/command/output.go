package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf16"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// format is how a result is shown.
type format int

const (
	asTable format = iota
	asJSON
	asYAML
)

var formats = []string{"table", "json", "yaml"}

// String implements pflag.Value.
func (f *format) String() string { return formats[*f] }

// Type implements pflag.Value.
func (f *format) Type() string { return "FORMAT" }

func (f *format) choices() []string { return formats }

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	for i, known := range formats {
		if s == known {
			*f = format(i)
			return nil
		}
	}
	return fmt.Errorf("there are %s", strings.Join(formats, ", "))
}

// show writes a result to standard output: the value as JSON or YAML, or what table makes of it.
func (a *app) show(value any, table func(*sheet)) error {
	text, err := a.render(value, table)
	if err != nil {
		return err
	}
	if _, err := a.Stdout.Write(text); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func (a *app) render(value any, table func(*sheet)) ([]byte, error) {
	if a.output == asTable {
		s := newSheet()
		table(s)
		return s.finish()
	}
	return encoded(value, a.output)
}

// encoded is a value as indented JSON, or as YAML with the same names.
func encoded(value any, f format) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	if f == asJSON {
		return escapedJSON(text.String(), f), nil
	}
	asYAML, err := yaml.JSONToYAML(text.Bytes())
	if err != nil || bytes.ContainsFunc(asYAML, func(r rune) bool { return r != '\n' && unprintable(r) }) {
		// YAML forbids some characters and writes others as they are. Escaped JSON is YAML, too.
		return escapedJSON(text.String(), f), nil
	}
	return asYAML, nil
}

// escapedJSON writes what is not printable in the strings of a JSON text as escapes. The encoder does
// so only with the control characters that JSON forbids, and a terminal obeys others, too.
func escapedJSON(text string, f format) []byte {
	safe := make([]byte, 0, len(text))
	for _, r := range text {
		switch {
		case r == '\n' || !unprintable(r):
			safe = utf8.AppendRune(safe, r)
		case r > 0xffff && f == asYAML: // which has no escapes in pairs
			safe = fmt.Appendf(safe, `\U%08x`, r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				safe = fmt.Appendf(safe, `\u%04x`, unit)
			}
		}
	}
	return safe
}

// sheet is text in columns. Cells must be printable already.
type sheet struct {
	text bytes.Buffer
	tabs *tabwriter.Writer
}

func newSheet() *sheet {
	s := new(sheet)
	s.tabs = tabwriter.NewWriter(&s.text, 0, 0, 3, ' ', tabwriter.StripEscape)
	return s
}

// row adds a line of cells, or none without cells. Rows that follow each other share their columns.
func (s *sheet) row(cells ...string) {
	if len(cells) == 0 {
		return
	}
	_, _ = io.WriteString(s.tabs, strings.Join(cells, "\t")+"\n") // into memory: cannot fail
}

// line adds a line that is no part of the columns.
func (s *sheet) line(format string, args ...any) {
	_ = s.tabs.Flush() // into memory: cannot fail
	fmt.Fprintf(&s.text, format+"\n", args...)
}

// finish returns the text, without spaces at the ends of lines.
func (s *sheet) finish() ([]byte, error) {
	if err := s.tabs.Flush(); err != nil {
		return nil, fmt.Errorf("lay out the result: %w", err)
	}
	lines := bytes.Split(s.text.Bytes(), []byte("\n"))
	for i, line := range lines {
		lines[i] = bytes.TrimRight(line, " ")
	}
	return bytes.Join(lines, []byte("\n")), nil
}
