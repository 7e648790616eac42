package command

import (
	"context"
	"fmt"

	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/files"
)

// catObject prints an object as it was. What is asked for as a table is shown as YAML.
func (a *app) catObject(ctx context.Context, v *view, where snapshot.Address, secrets bool) error {
	e, err := v.object(ctx, where)
	if err != nil {
		return err
	}
	o, err := e.Object(ctx, v.contents)
	if err != nil {
		return err
	}
	if !secrets {
		hidden := false
		if o, hidden = redact(e.Key, o); hidden {
			a.note("the values of this Secret are hidden; --show-secrets shows them")
		}
	}
	shape := a.output
	if shape == asTable {
		shape = asYAML
	}
	text, err := encoded(o, shape)
	if err != nil {
		return err
	}
	if _, err := a.Stdout.Write(text); err != nil {
		return fmt.Errorf("write the object: %w", err)
	}
	return nil
}

// catFile writes the bytes of a file, each verified before it is written.
func (a *app) catFile(ctx context.Context, v *view, where snapshot.Address) error {
	f, err := v.file(ctx, where)
	if err != nil {
		return err
	}
	if f.Link != "" { // the first name of the same file holds the content
		first, err := snapshot.ParseAddress(fileAddress(where.Volume(), f.Link))
		if err != nil {
			return err
		}
		if f, err = v.file(ctx, first); err != nil {
			return err
		}
	}
	if f.Type == files.Symlink {
		return usage("%s is a symbolic link to %s", name(where.String()), name(f.Target))
	}
	if f.Type != files.Regular {
		return usage("%s is a %s", name(where.String()), f.Type)
	}
	for _, c := range f.contents {
		if err := v.contents.WriteTo(ctx, c, a.Stdout); err != nil {
			return err
		}
	}
	return nil
}
