package command

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command shows an example, and each example names commands, flags and arguments as they are.
func TestEveryCommandHasExamplesThatCanBeRun(t *testing.T) {
	quoted := regexp.MustCompile(`"[^"]*"`)
	var all []*cobra.Command
	collect(new(app).root(), &all)
	for _, c := range all {
		examples := 0
		for line := range strings.Lines(c.Example) {
			words := strings.Fields(quoted.ReplaceAllString(line, "quoted"))
			if len(words) == 0 || words[0] != "varve" {
				continue // what the shell does around it
			}
			examples++
			for i, word := range words {
				if strings.ContainsAny(word, "<>|…") {
					words = words[:i]
					break
				}
			}
			root := new(app).root() // flags are read once
			meant, rest, err := root.Find(words[1:])
			if err == nil {
				err = meant.ParseFlags(rest)
			}
			if err == nil && meant.Args != nil {
				err = meant.Args(meant, meant.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: %s: %v", c.CommandPath(), strings.TrimSpace(line), err)
			}
		}
		if examples == 0 {
			t.Errorf("%s has no example", c.CommandPath())
		}
	}
}

func collect(c *cobra.Command, all *[]*cobra.Command) {
	*all = append(*all, c)
	for _, sub := range c.Commands() {
		collect(sub, all)
	}
}
