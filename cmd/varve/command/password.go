package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// passwordVariable names the file if --password-file does not.
const passwordVariable = "VARVE_PASSWORD_FILE"

// A password is read to its end or not at all, so there is a bound; no person and no key generator
// comes near it.
const (
	maxPassword = 4 << 10
	minPassword = 8 // characters
)

// newPassword returns a password that is to open a repository from now on, from a file or from whoever
// sits at the terminal, who is asked for it twice. One that somebody else would try is refused. It is
// never an argument or an environment variable: other users of the machine see those.
func (a *app) newPassword(ctx context.Context, file string, q question) (string, error) {
	if file != "" {
		p, err := readPassword(file)
		if err != nil {
			return "", err
		}
		return p, refuseWeak(p)
	}
	q.twice = true
	return a.askFor(ctx, q)
}

// question asks for a password.
type question struct {
	prompt  string
	twice   bool   // it is a new one
	instead string // how to answer without a terminal
}

func (a *app) askFor(ctx context.Context, q question) (string, error) {
	screen, closeScreen := a.screen()
	if screen == nil {
		return "", failure{err: errors.New("no password: there is no terminal to ask for it"), code: exitUsage, hint: "give " + q.instead}
	}
	defer closeScreen()
	p, err := a.ask(ctx, screen, q.prompt)
	if err == nil && q.twice {
		err = refuseWeak(p)
	}
	if err != nil || !q.twice {
		return p, err
	}
	again, err := a.ask(ctx, screen, "Again: ")
	if err == nil && again != p {
		err = usage("the two passwords differ")
	}
	return p, err
}

// screen is where a question can be seen when standard input is a terminal: standard error, or else
// the terminal itself. It is nil when nobody sits there.
func (a *app) screen() (screen io.Writer, closeScreen func()) {
	if !term.IsTerminal(int(a.Stdin.Fd())) {
		return nil, nil
	}
	if term.IsTerminal(int(a.Stderr.Fd())) {
		return a.Stderr, func() {}
	}
	terminal, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
	if err != nil {
		return nil, nil
	}
	return terminal, func() { _ = terminal.Close() } // nothing that was written there is to be kept
}

// readPassword takes a file's content without the end of its last line.
func readPassword(path string) (string, error) {
	content, err := readSecret(path, maxPassword)
	if err != nil {
		return "", failure{err: fmt.Errorf("read password: %w", err), code: exitUsage,
			hint: "--password-file FILE, or else " + passwordVariable + ", names a file that holds the password and nothing else"}
	}
	content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	switch {
	case len(content) == 0:
		return "", usage("read password: %s is empty", path)
	case bytes.ContainsAny(content, "\n\x00"):
		return "", usage("read password: %s holds more than one line; is it the right file?", path)
	}
	return string(content), nil
}

// ask reads a line from the terminal without showing it. An interrupt gives the terminal back as it
// was; the read that nothing can end then ends with the process.
func (a *app) ask(ctx context.Context, screen io.Writer, prompt string) (string, error) {
	terminal := int(a.Stdin.Fd())
	before, err := term.GetState(terminal)
	if err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	fmt.Fprint(screen, prompt)
	defer fmt.Fprintln(screen)
	type answer struct {
		line []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(terminal)
		answered <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", errors.Join(context.Cause(ctx), term.Restore(terminal, before))
	case got := <-answered:
		if got.err != nil {
			return "", fmt.Errorf("ask for the password: %w", got.err)
		}
		if len(got.line) == 0 {
			return "", usage("the password is empty")
		}
		return string(got.line), nil
	}
}

// known are passwords that stand in manuals and defaults, whatever their length.
var known = []string{"password", "passw0rd", "static-passw0rd", "12345678", "123456789", "1234567890", "qwertyuiop",
	"changeme", "change-me", "letmein!", "kubernetes", "velero", "restic", "backup", "varve"}

// refuseWeak keeps a repository from being made with a password that protects nothing. It cannot tell
// a good one.
func refuseWeak(p string) error {
	const hint = "for example: head -c 24 /dev/urandom | base64 > FILE; and keep a copy where the backups are not"
	why := ""
	switch {
	case slices.Contains(known, strings.ToLower(p)):
		why = "it is one of those that everybody tries"
	case utf8.RuneCountInString(p) < minPassword:
		why = fmt.Sprintf("it has fewer than %d characters", minPassword)
	case strings.Trim(p, p[:1]) == "":
		why = "it is one character, repeated"
	default:
		return nil
	}
	return failure{err: errors.New("the password is refused: " + why), code: exitUsage, hint: hint}
}
