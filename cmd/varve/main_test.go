package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/varve-dev/varve/cmd/varve/command"
	"github.com/varve-dev/varve/repo"
)

// rewrite makes the scripts accept what the program prints now: go test ./cmd/varve -rewrite.
var rewrite = flag.Bool("rewrite", false, "rewrite the expected output in the scripts")

// passwordWork makes a password slot cost a millisecond instead of a second.
const passwordWork = 10

// TestMain lets the test binary be the program when it is started as varve: by a script, or by a test
// that needs a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"varve": varve, "kubectl-varve": varve})
}

// limitsVariable gives a process of the program small limits, so that little data makes packs, deposits,
// index segments and checkpoints.
const limitsVariable = "VARVE_TEST_LIMITS"

// varve is the program, on a store that fails if [faultVariable] says so.
func varve() {
	p := command.Process{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, PasswordWork: passwordWork}
	f, err := faultOf(os.Getenv(faultVariable))
	if err != nil {
		panic(err)
	}
	if f != nil {
		p.Dial = f.dial
	}
	if way := os.Getenv(storeVariable); way != "" {
		p.Dial = dialOdd(way)
	}
	if os.Getenv(limitsVariable) == "small" {
		p.Limits = repo.Limits{Pack: 100_000, Inline: 8_000, Deposit: 2, Loose: 24, Checkpoint: 3}
	}
	os.Exit(command.Main(p))
}

// TestScripts runs testdata/script/*.txtar. Beside the commands of testscript they have
//
//	field FILE PATH VALUE   the JSON file has that value at a path such as findings.0.object
//
// and $PASSWORD, a file with a password.
func TestScripts(t *testing.T) { testscript.Run(t, scripts("script")) }

// scripts are the parameters of all scripts, for those in one folder.
func scripts(folder string) testscript.Params {
	return testscript.Params{
		Dir:                 filepath.Join("testdata", folder),
		UpdateScripts:       *rewrite,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               prepare,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"status": status, "field": field},
	}
}

// prepare gives a script a password, and places for a repository and a cache.
func prepare(e *testscript.Env) error {
	password := filepath.Join(e.WorkDir, "password")
	e.Setenv("PASSWORD", password)
	e.Setenv("VARVE_PASSWORD_FILE", password)
	e.Setenv("VARVE_REPOSITORY", "dir://"+filepath.Join(e.WorkDir, "repository"))
	e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
	e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
	return os.WriteFile(password, []byte("correct horse battery staple\n"), 0o600)
}

// status runs the program and compares its exit code: status 2 varve repo init.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE PROGRAM ARGUMENT...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s: exit code %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// field compares one value in a JSON document with a text.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: field FILE PATH VALUE")
	}
	var value any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &value); err != nil {
		ts.Fatalf("%s is not JSON: %v", args[0], err)
	}
	for step := range strings.SplitSeq(args[1], ".") {
		value = at(value, step)
	}
	text, err := json.Marshal(value)
	ts.Check(err)
	if got := strings.Trim(string(text), `"`); (got == args[2]) == neg {
		ts.Fatalf("%s of %s is %s; want %s", args[1], args[0], got, args[2])
	}
}

// at returns a field of a JSON object, an element of an array by its index, or the "length" of one.
func at(value any, step string) any {
	switch v := value.(type) {
	case map[string]any:
		return v[step]
	case []any:
		if step == "length" {
			return len(v)
		}
		for i, element := range v {
			if step == string(rune('0'+i)) {
				return element
			}
		}
	}
	return nil
}
