package corpus

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/varve-dev/varve/test/api"
)

// Changes counts what a change did.
type Changes struct {
	Changed, Created, Deleted int
	unit                      string
}

func (c Changes) String() string {
	return fmt.Sprintf("%d %s changed, %d created, %d deleted", c.Changed, c.unit, c.Created, c.Deleted)
}

// ChangeObjects changes one percent of the objects of a seed, as a day in a company does: settings,
// secrets, rollouts, annotations; a few objects go and others come. Each round changes others. It
// returns when the cluster is at rest.
func ChangeObjects(ctx context.Context, client *api.Client, seed uint64, round int) (Changes, error) {
	documents, err := Documents(seed)
	if err != nil {
		return Changes{}, err
	}
	resources, err := client.EveryVersion(ctx)
	if err != nil {
		return Changes{}, err
	}
	paths := map[string]api.Resource{}
	for _, r := range resources {
		paths[r.APIVersion()+" "+r.Kind] = r
	}
	r := source(seed, "change objects", fmt.Sprint(round))
	r.Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
	changes := Changes{unit: "objects"}
	for i, d := range documents[:len(documents)/100] {
		resource := paths[d.APIVersion+" "+d.Kind]
		path := resource.Path(d.Namespace, d.Name)
		if expendable[d.Kind] && i%3 == 0 {
			if err := client.Do(ctx, http.MethodDelete, path, nil, nil); err != nil {
				return changes, err
			}
			changes.Deleted++
			note := api.Object{
				"metadata": map[string]any{"name": fmt.Sprintf("release-notes-%d-%d", round, i)},
				"data":     map[string]any{"notes": string(words(r, nil, 800))},
			}
			if err := client.Do(ctx, http.MethodPost, "/api/v1/namespaces/"+d.Namespace+"/configmaps", note, nil); err != nil {
				return changes, err
			}
			changes.Created++
			continue
		}
		patch := api.Raw{Content: fmt.Appendf(nil, patchFor(d), noun(r), round), ContentType: "application/merge-patch+json"}
		if err := client.Do(ctx, http.MethodPatch, path, patch, nil); err != nil {
			return changes, err
		}
		changes.Changed++
	}
	return changes, Settle(ctx, client)
}

// expendable are kinds that nothing else refers to.
var expendable = map[string]bool{"PrometheusRule": true, "ServiceMonitor": true, "NetworkPolicy": true, "PodDisruptionBudget": true, "DestinationRule": true}

// patchFor returns a merge patch with a word and a number to be filled in.
func patchFor(d Document) string {
	switch {
	case d.Kind == "ConfigMap" && !strings.Contains(d.Content, "\nimmutable: true\n"):
		return `{"data":{"release":"%s-%d"}}`
	case d.Kind == "Secret" && !strings.Contains(d.Content, "\ntype: kubernetes.io/"):
		return `{"stringData":{"ROTATED":"%s-%d"}}`
	case d.Kind == "Deployment":
		return `{"spec":{"template":{"metadata":{"annotations":{"example.com/restarted-for":"%s-%d"}}}}}`
	default:
		return `{"metadata":{"annotations":{"example.com/reviewed":"%s-%d"}}}`
	}
}

// ChangeFiles changes one percent of the files in a folder that WriteFiles filled, and two percent of
// the pages of one of its databases' files. Each round changes others.
func ChangeFiles(dir string, seed uint64, round int) (Changes, error) {
	files, err := regularFiles(dir)
	if err != nil {
		return Changes{}, err
	}
	r := source(seed, "change files", fmt.Sprint(round))
	r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	changes := Changes{unit: "files"}
	for i, path := range files[:len(files)/100] {
		switch i % 10 {
		case 0:
			err = os.Remove(path)
			changes.Deleted++
		case 1:
			err = os.Rename(path, path+".moved")
			changes.Deleted++
			changes.Created++
		case 2:
			err = os.Chmod(path, 0o640)
			changes.Changed++
		case 3:
			err = os.WriteFile(path+".new", mailText(r, 5000), 0o644)
			changes.Created++
		case 4, 5:
			err = os.WriteFile(path, jsonText(r, 3000), 0o644)
			changes.Changed++
		default:
			err = appendTo(path, logText(r, 2000))
			changes.Changed++
		}
		if err != nil {
			return changes, err
		}
	}
	changes.Changed++
	return changes, changePages(r, filepath.Join(dir, "database/base/16384/24576"))
}

// regularFiles returns the files that a change may pick: small ones, sorted, outside of the odd corner.
func regularFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := entry.Name(); {
		case entry.IsDir() && (name == "odd" || name == "database" || name == "archive"):
			return filepath.SkipDir
		case entry.Type().IsRegular():
			files = append(files, path)
		}
		return nil
	})
	slices.SortFunc(files, cmp.Compare[string])
	return files, err
}

func appendTo(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// changePages rewrites two percent of a database's pages in place.
func changePages(r *rand.Rand, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	page := make([]byte, pageSize)
	count := int(info.Size() / pageSize)
	for range count / 50 {
		number := r.IntN(count)
		fillPage(r, page, uint32(number))
		if _, err := f.WriteAt(page, int64(number)*pageSize); err != nil {
			return err
		}
	}
	return os.Chtimes(path, time.Now(), time.Now())
}
