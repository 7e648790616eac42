package command

import (
	"strings"

	"github.com/spf13/cobra"
)

// verbs are the same commands with the verb first, as users of Ark have them in their fingers: varve
// get backups, varve create restore. They work and are not shown in the help of the program.
func (a *app) verbs() []*cobra.Command {
	return []*cobra.Command{
		verb("create", renamed(a.backupCreate(), "backup"), renamed(a.restoreCreate(), "restore")),
		verb("get", renamed(a.backupGet(), "backups", "backup"), renamed(a.snapshotList(), "snapshots", "snapshot")),
		verb("describe", renamed(a.backupDescribe(), "backup", "backups")),
	}
}

func verb(name string, nouns ...*cobra.Command) *cobra.Command {
	c := noun(name, strings.ToUpper(name[:1])+name[1:]+" what the next word names",
		"The same as the commands that begin with the noun: varve backup "+name+".", nouns...)
	c.Hidden = true
	return c
}

// renamed gives a command the name of its noun instead of its verb.
func renamed(c *cobra.Command, name string, aliases ...string) *cobra.Command {
	_, arguments, _ := strings.Cut(c.Use, " ")
	c.Use, c.Aliases = strings.TrimSpace(name+" "+arguments), aliases
	return c
}
