package simulation

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// The contents of all backups come from a small universe, so that everybody always has something that
// somebody else has stored, is storing, or has just given up. It has some folders of some files each.
// A picture says which files of which folders there are; a folder is a node whose links are its files.
const (
	folders = 5
	files   = 4
)

// picture holds a set of files for each folder, as bits. A folder without files is absent.
type picture [folders]uint8

// content is what stands in a file: a short text, or noise that does not compress.
func content(folder, file int) (blob.Class, []byte) {
	if file == 0 {
		return blob.Secrets, fmt.Appendf(nil, "password of folder %d", folder)
	}
	data := make([]byte, 40+60*file)
	r := rand.New(rand.NewPCG(uint64(folder), uint64(file)))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return blob.Data, data
}

func folderBody(folder int, set uint8) []byte {
	return fmt.Appendf(nil, "folder %d with %04b", folder, set)
}

// evolve draws the picture of the next backup from that of its parent.
func (p picture) evolve(r *rand.Rand) picture {
	for i := range p {
		switch r.IntN(5) {
		case 0:
			p[i] = uint8(r.IntN(1 << files))
		case 1:
			p[i] = 0
		}
	}
	return p
}

// with adds the folders of another picture that this one lacks.
func (p picture) with(o picture) picture {
	for i := range p {
		if p[i] == 0 {
			p[i] = o[i]
		}
	}
	return p
}

// whole is a snapshot as it must come out again.
type whole struct {
	id      journal.SnapshotID
	picture picture
	roots   [folders]blob.Ref
	blobs   []blob.Ref // all that it reaches
}

// source is where a folder is taken from without reading it: a snapshot that has it.
type source struct {
	id   journal.SnapshotID
	of   picture
	refs [folders]blob.Ref
}

// write stores a picture, but for the folders that stand in a parent as they are.
func write(ctx context.Context, t *task, w *repo.Writer, p picture, id journal.SnapshotID, parents []source) (manifest blob.Ref, s whole, inherits []journal.SnapshotID, err error) {
	s = whole{id: id, picture: p}
	var links []blob.Ref
	for i, set := range p {
		t.linger()
		if set == 0 {
			continue
		}
		from := slices.IndexFunc(parents, func(f source) bool { return f.of[i] == set })
		if from >= 0 {
			s.roots[i] = parents[from].refs[i]
			if !slices.Contains(inherits, parents[from].id) {
				inherits = append(inherits, parents[from].id)
			}
		} else if s.roots[i], err = writeFolder(ctx, w, i, set); err != nil {
			return manifest, s, nil, err
		}
		links = append(links, s.roots[i])
	}
	manifest, err = w.WriteNode(ctx, blob.Manifest, blob.Node{Links: links, Body: id[:]})
	return manifest, s, inherits, err
}

func writeFolder(ctx context.Context, w *repo.Writer, folder int, set uint8) (blob.Ref, error) {
	var links []blob.Ref
	for file := range files {
		if set&(1<<file) == 0 {
			continue
		}
		class, data := content(folder, file)
		ref, err := w.Write(ctx, class, data)
		if err != nil {
			return blob.Ref{}, err
		}
		links = append(links, ref)
	}
	return w.WriteNode(ctx, blob.Tree, blob.Node{Links: links, Body: folderBody(folder, set)})
}

// errWrong means that a read returned what was not written.
type errWrong struct{ what string }

func (e errWrong) Error() string { return "wrong bytes: " + e.what }

// restore reads a snapshot and compares it with what was written.
func restore(ctx context.Context, t *task, r *repo.Repository, manifest blob.ID, want picture, id journal.SnapshotID) error {
	top, err := r.ReadNode(ctx, blob.Ref{Class: blob.Manifest, ID: manifest})
	if err != nil {
		return err
	}
	if !bytes.Equal(top.Body, id[:]) {
		return errWrong{"manifest of " + id.String()}
	}
	links := top.Links
	for folder, set := range want {
		if set == 0 {
			continue
		}
		t.rest()
		if len(links) == 0 {
			return errWrong{fmt.Sprintf("folder %d is missing", folder)}
		}
		if err := restoreFolder(ctx, r, links[0], folder, set); err != nil {
			return err
		}
		links = links[1:]
	}
	if len(links) > 0 {
		return errWrong{"a folder too many"}
	}
	return nil
}

func restoreFolder(ctx context.Context, r *repo.Repository, ref blob.Ref, folder int, set uint8) error {
	node, err := r.ReadNode(ctx, ref)
	if err != nil {
		return err
	}
	if !bytes.Equal(node.Body, folderBody(folder, set)) {
		return errWrong{fmt.Sprintf("folder %d", folder)}
	}
	links := node.Links
	for file := range files {
		if set&(1<<file) == 0 {
			continue
		}
		if len(links) == 0 {
			return errWrong{fmt.Sprintf("file %d of folder %d is missing", file, folder)}
		}
		got, err := r.Read(ctx, links[0])
		if err != nil {
			return err
		}
		if _, data := content(folder, file); !bytes.Equal(got, data) {
			return errWrong{fmt.Sprintf("file %d of folder %d", file, folder)}
		}
		links = links[1:]
	}
	if len(links) > 0 {
		return errWrong{"a file too many"}
	}
	return nil
}
