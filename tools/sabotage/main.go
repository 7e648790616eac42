// Command sabotage shows that the tests of safety can fail. Each file in faults/ is a patch that plants one fault in
// a line on which a promise rests: no revival of a retired pack, no look at what was read back, a name that is
// not compared. The fault is compiled in by an overlay of the go command, so neither the sources nor the program
// that is shipped know of it, and the test that the patch names must fail.
//
//	go -C tools run ./sabotage               plant all of them, compare with docs/sabotage.md
//	go -C tools run ./sabotage -write        … and write that page anew
//	go -C tools run ./sabotage no-revive     only those
//
// A patch begins with four lines, each a word, a colon and a text:
//
//	What: a snapshot does not take back the retired packs on which it relies
//	Breaks: I1
//	Model: noRevive
//	Test: ./repo/simulation -run PromisesHold -seeds 400
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// A fault is one patch.
type fault struct {
	name string // of the file, without its ending
	patch
	caughtBy string // the first test that failed
}

// patch is what a file says.
type patch struct {
	what, breaks, model string
	test                []string // arguments of go test
	files               []string // that the patch changes
	place               string   // the function that it changes, or else the file
	diff                string
}

// timeLimit ends a test in which a fault makes something wait for ever; that counts as caught.
const timeLimit = "300s"

func main() {
	write := flag.Bool("write", false, "write docs/sabotage.md")
	flag.Parse()
	if err := run(flag.Args(), *write); err != nil {
		fmt.Fprintln(os.Stderr, "sabotage:", err)
		os.Exit(1)
	}
}

func run(only []string, write bool) error {
	root, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	faults, err := load(filepath.Join(root, "tools", "sabotage", "faults"), only)
	if err != nil {
		return err
	}
	escaped := plantAll(root, faults)
	if err := errors.Join(escaped...); err != nil {
		return err
	}
	fmt.Printf("%d faults planted, all caught\n", len(faults))
	if len(only) > 0 {
		return nil
	}
	name := filepath.Join(root, "docs", "sabotage.md")
	if write {
		return os.WriteFile(name, []byte(page(faults)), 0o644)
	}
	there, err := os.ReadFile(name)
	if err == nil && withoutTests(string(there)) != withoutTests(page(faults)) {
		err = fmt.Errorf("%s is out of date; write it with make sabotage WRITE=-write", name)
	}
	return err
}

// load reads the patches, in the order of their names.
func load(folder string, only []string) (faults []*fault, err error) {
	names, err := filepath.Glob(filepath.Join(folder, "*.patch"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f := &fault{name: strings.TrimSuffix(filepath.Base(name), ".patch")}
		if len(only) > 0 && !slices.Contains(only, f.name) {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if f.patch, err = parse(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		faults = append(faults, f)
	}
	if len(faults) == 0 || len(faults) < len(only) {
		return nil, fmt.Errorf("%d of the faults asked for are in %s", len(faults), folder)
	}
	return faults, nil
}

var (
	changedFile = regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)$`)
	inFunction  = regexp.MustCompile(`(?m)^@@ .* @@ func (?:\([^)]*\) )?(\w+)`)
)

func parse(text string) (p patch, err error) {
	head, diff, ok := strings.Cut(text, "\n\n")
	if !ok {
		return p, errors.New("no empty line between head and diff")
	}
	p.diff = diff
	fields := map[string]string{}
	for line := range strings.Lines(head) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		fields[key] = strings.TrimSpace(value)
	}
	p.what, p.breaks, p.model, p.test = fields["What"], fields["Breaks"], fields["Model"], strings.Fields(fields["Test"])
	for _, match := range changedFile.FindAllStringSubmatch(diff, -1) {
		p.files = append(p.files, match[1])
	}
	if p.what == "" || p.breaks == "" || len(p.test) == 0 || len(p.files) == 0 {
		return p, errors.New("it needs What, Breaks, Test and a diff")
	}
	p.place = p.files[0]
	if match := inFunction.FindStringSubmatch(diff); match != nil {
		p.place = filepath.Dir(p.files[0]) + " " + match[1]
	}
	return p, nil
}

// plantAll plants the faults, two at a time, and returns an error for each that no test has caught.
func plantAll(root string, faults []*fault) []error {
	escaped := make([]error, len(faults))
	var printing sync.Mutex
	var running sync.WaitGroup
	slots := make(chan struct{}, 2)
	for i, f := range faults {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			verdict := "caught by "
			if err := f.plant(root); err != nil {
				escaped[i] = fmt.Errorf("%s: %w", f.name, err)
				verdict = "NOT CAUGHT"
			}
			printing.Lock()
			defer printing.Unlock()
			fmt.Printf("%-28s %s%s\n", f.name, verdict, f.caughtBy)
		})
	}
	running.Wait()
	return escaped
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (Test\w+)`)

// plant compiles the fault in and runs its test, which must fail.
func (f *fault) plant(root string) error {
	work, err := os.MkdirTemp("", "sabotage")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	overlay, err := f.overlay(root, work)
	if err != nil {
		return err
	}
	test := func(args ...string) (string, error) {
		command := exec.CommandContext(context.Background(), "go", append([]string{"test", "-overlay", overlay}, args...)...)
		command.Dir = root
		output, err := command.CombinedOutput()
		return string(output), err
	}
	if output, err := test("-run", "^$", f.test[0]); err != nil {
		return fmt.Errorf("it does not build: %w\n%s", err, output)
	}
	output, err := test(append([]string{"-timeout", timeLimit}, f.test...)...)
	if err == nil {
		return fmt.Errorf("go test %s passes", strings.Join(f.test, " "))
	}
	match := failedTest.FindStringSubmatch(output)
	if match == nil {
		return fmt.Errorf("no test has failed: %w\n%s", err, output)
	}
	f.caughtBy = match[1]
	return nil
}

// overlay applies the patch to copies of the files and returns the name of a file that puts them in place.
func (f *fault) overlay(root, work string) (string, error) {
	replace := map[string]string{}
	for _, name := range f.files {
		source, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		replace[filepath.Join(root, name)] = filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(work, name), source, 0o644); err != nil {
			return "", err
		}
	}
	apply := exec.CommandContext(context.Background(), "git", "apply", "-")
	apply.Dir = work
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(work))
	apply.Stdin = strings.NewReader(f.diff)
	if output, err := apply.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the patch does not apply: %w: %s", err, output)
	}
	encoded, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(work, "overlay.json")
	return name, os.WriteFile(name, encoded, 0o644)
}

// lastColumn names the test that was the first to fail, which may be another one on another day.
var lastColumn = regexp.MustCompile("(?m) `\\w+` in `[^`]+` \\|$")

func withoutTests(page string) string { return lastColumn.ReplaceAllString(page, "") }

// page is docs/sabotage.md.
func page(faults []*fault) string {
	var b strings.Builder
	b.WriteString("<!-- written by make sabotage; do not edit -->\n\n# Planted faults\n\n" +
		"A test of safety is worth what it catches. Each line below is a fault that was planted where a promise rests on one line, and the\n" +
		"test that caught it. `make sabotage` plants them all again, by overlays at compile time; the patches are in `tools/sabotage/faults`.\n" +
		"Promises are those of [Safety](safety.md). A name under *Model* is that of the same fault in the model of the commit protocol from\n" +
		"which the code was built.\n\n")
	fmt.Fprintf(&b, "%d faults.\n\n| Fault | Where | Breaks | Model | Caught by |\n|---|---|---|---|---|\n", len(faults))
	for _, f := range faults {
		model := ""
		if f.model != "" {
			model = "`" + f.model + "`"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | `%s` in `%s` |\n", f.what, f.place, f.breaks, model, f.caughtBy, strings.TrimPrefix(f.test[0], "./"))
	}
	return b.String()
}
