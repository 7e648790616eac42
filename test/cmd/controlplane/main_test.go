package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// command returns the path of the built command, which lies beside the programs it starts.
func command(t *testing.T) string {
	t.Helper()
	build := exec.Command("go", "run", "../../assets")
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("go run ./assets: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "controlplane")
}

func TestRunGivesItsCommandAKubeconfigAndReturnsItsStatus(t *testing.T) {
	path := command(t)
	script := `"$1" get --raw /version && exit 7`
	cmd := exec.Command(path, "run", "--", "sh", "-c", script, "sh", filepath.Join(filepath.Dir(path), "kubectl"))
	out, err := cmd.Output()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("error %v, want exit status 7", err)
	}
	if !strings.Contains(string(out), `"gitVersion": "v1.36.3"`) {
		t.Errorf("the command printed %q, want the server's version", out)
	}
}

// running starts the command and returns when it is ready.
func running(t *testing.T, args ...string) (cmd *exec.Cmd, stdin interface{ Close() error }, kubeconfig string) {
	t.Helper()
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	cmd = exec.Command(command(t), append([]string{"run", "--kubeconfig", kubeconfig}, args...)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("first line %q, error %v; want ready", line, err)
	}
	return cmd, stdin, kubeconfig
}

// namesakes returns the processes whose command line has a word in it.
func namesakes(t *testing.T, word string) (processes []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if line, err := os.ReadFile(file); err != nil || !strings.Contains(string(line), word) {
			continue
		}
		process, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		processes = append(processes, process)
	}
	return processes
}

func TestEndOfInputStopsIt(t *testing.T) {
	cmd, stdin, _ := running(t, "--until-eof")
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v, want success", err)
	}
}

func TestKilledItTakesItsProgramsAlong(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a process with its parent")
	}
	// The directory of its data is in the command lines of its programs, and names only them.
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	cmd, _, _ := running(t)
	if programs := namesakes(t, dir+"/varve-controlplane-"); len(programs) != 3 {
		t.Fatalf("processes %v are its programs, want 3", programs)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("it ended well, want killed")
	}
	deadline := time.Now().Add(10 * time.Second)
	for left := namesakes(t, dir); len(left) > 0; left = namesakes(t, dir) {
		if time.Now().After(deadline) {
			for _, process := range left {
				syscall.Kill(process, syscall.SIGKILL)
			}
			t.Fatalf("processes %v ran 10 s after the command was killed", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
