package command

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is which program this is.
type release struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show which varve this is",
		Long:    "Show the version of the program, the revision of its source, and what it was built with.",
		Example: "  varve version -o json",
		Args:    arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			r := thisRelease()
			return a.show(r, func(t *sheet) {
				t.row("Version:", r.Version)
				t.row("Revision:", cmp.Or(r.Revision, "not recorded when it was built"))
				t.row("Built with:", fmt.Sprintf("%s for %s", r.Go, r.Platform))
			})
		},
	}
}

// thisRelease asks the binary, which the go command stamped.
func thisRelease() release {
	r := release{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return r
	}
	if build.Main.Version != "" {
		r.Version = build.Main.Version
	}
	for _, s := range build.Settings {
		switch {
		case s.Key == "vcs.revision":
			r.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			r.Revision += ", changed"
		}
	}
	return r
}
