package varve_test

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// A floor is a set of packages that may import packages of lower floors only.
type floor struct {
	packages []string
	reason   string
}

// floors is the house, from the ground up. Adding a package means giving it a floor: the lowest one
// from which it sees all that it needs.
var floors = []floor{
	{
		[]string{"chunker", "repo/blob", "repo/formattest", "repo/storage"},
		"words that everybody speaks: where contents are cut, how things are named, what a bucket can do; they need nobody",
	}, {
		[]string{
			"repo/seal", "repo/seal/kms",
			"repo/storage/cloud", "repo/storage/dial", "repo/storage/dir", "repo/storage/limit", "repo/storage/mem", "repo/storage/meter",
			"repo/storage/probe", "repo/storage/retry", "repo/storage/storagetest",
		},
		"sealing knows names but not layouts; drivers know what a bucket promises and nothing of what it holds",
	}, {
		[]string{"index", "repo/journal", "repo/pack", "repo/seen"},
		"the three stored structures and the client's memory; each knows its own bytes, and the repository alone knows all",
	}, {
		[]string{"repo"},
		"the only door to stored data: whoever is above reads verified blobs and commits, and can break no invariant of what is below",
	}, {
		[]string{"snapshot/tree"},
		"the ordered map knows nodes and references, not what its values mean, so that objects and files share it",
	}, {
		[]string{"snapshot/content"},
		"entries with contents: chunks, bundles and extents between the map and what is stored in it",
	}, {
		[]string{"snapshot", "snapshot/files"},
		"what a backup is and how a file tree becomes one; neither knows that Kubernetes exists",
	}, {
		[]string{"snapshot/copies"},
		"a snapshot as the source of another in a second repository; it knows snapshots, entries and contents, not what they mean",
	}, {
		[]string{"kube", "kube/kubetest"},
		"Kubernetes as a source and a sink; the use cases above decide what to do with it",
	}, {
		[]string{"kube/backup", "kube/restore"},
		"the use cases from end to end; they take a plain plan and know neither flags nor custom resources",
	}, {
		[]string{"bench"}, // and the controller, when it comes
		"those who decide when a use case runs; they never touch packs, keys or trees",
	}, {
		[]string{"cmd/varve/command"},
		"one file for each noun of the command line, thin over the library",
	}, {
		[]string{"cmd/varve"},
		"main and nothing else, so that everything else can be tested from outside",
	}, {
		[]string{"docs/formats"},
		"a test that reads, by what the documents say, what the whole house wrote",
	}, {
		[]string{"repo/simulation"},
		"tests that play whole schedules over the repository; nobody builds on them, so they stand above all",
	}, {
		[]string{"."},
		"these tests, which import nothing of the house",
	},
}

// beside lists the imports inside one floor that are meant, each with its reason.
var beside = map[[2]string]string{
	{"repo/storage/dial", "repo/storage/cloud"}:  "dial is the list of the drivers: it turns a URL into one of them, in place of a registry filled by init",
	{"repo/storage/cloud", "repo/storage/probe"}: "the tests of the drivers let real servers be probed, as an operator does",
	{"repo/storage/dial", "repo/storage/dir"}:    "dial is the list of the drivers",
	{"repo/storage/dial", "repo/storage/limit"}:  "dial puts what stands before a driver together, in the one right order",
	{"repo/storage/dial", "repo/storage/mem"}:    "dial is the list of the drivers",
	{"repo/storage/dial", "repo/storage/meter"}:  "dial puts what stands before a driver together",
	{"repo/storage/dial", "repo/storage/retry"}:  "dial puts what stands before a driver together",
}

// A ban keeps imports out of packages.
type ban struct {
	what   string
	bans   func(imported string) bool
	from   func(p pkg, s source) bool
	reason string
}

var bans = []ban{
	{
		"Kubernetes below kube",
		within("k8s.io", "sigs.k8s.io"),
		func(p pkg, _ source) bool { return under(p.path, "chunker", "index", "repo", "snapshot") },
		"the engine needs no cluster: one binary, a URL and a key restore everything when nothing else is left",
	}, {
		"more than the standard library in the chunker",
		func(imported string) bool { return !isStandard(imported) },
		func(p pkg, s source) bool { return under(p.path, "chunker") && !s.isTest() },
		"where contents are cut is part of the format; no release of a library may move a cut",
	}, {
		"a cloud SDK outside its driver",
		within("gocloud.dev", "github.com/aws", "github.com/Azure", "cloud.google.com", "google.golang.org/api"),
		func(p pkg, _ source) bool { return !under(p.path, "repo/storage/cloud", "repo/seal/kms") },
		"a bucket has five methods and a key in a service two; SDKs are a thousand packages that only their drivers need",
	}, {
		"test support in what is shipped",
		func(imported string) bool {
			return isStandard(imported) && under(imported, "testing", "net/http/httptest") ||
				within("github.com/google/go-cmp", "github.com/rogpeppe/go-internal")(imported) ||
				strings.HasPrefix(imported, module) && strings.HasSuffix(path.Base(imported), "test")
		},
		func(p pkg, s source) bool { return !s.isTest() && !p.isTestPackage() },
		"tests see the code and the code sees no tests; importing testing alone adds flags to the binary",
	}, {
		"an assertion library",
		within(
			"github.com/stretchr/testify", "github.com/onsi/gomega", "github.com/onsi/ginkgo",
			"github.com/smartystreets/goconvey", "gotest.tools", "github.com/matryer/is",
		),
		anywhere,
		"a test says in Go what was wrong, with what it got and what it wanted; a second language for that is one too many",
	}, {
		"a log",
		within("log", "k8s.io/klog", "github.com/go-logr", "github.com/sirupsen/logrus", "go.uber.org/zap"),
		func(p pkg, s source) bool { return !s.isTest() && !under(p.path, "cmd", "controller") },
		"a library returns errors and emits events; what was only logged is lost to the caller who could have acted on it",
	}, {
		"unsafe or C",
		func(imported string) bool { return imported == "unsafe" || imported == "C" },
		anywhere,
		"every decoder here reads bytes that an attacker may have written, and the binary must run where no libc is",
	},
}

func anywhere(pkg, source) bool { return true }

// under reports whether a slash-separated path is one of the folders or stands inside one.
func under(name string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool {
		return name == folder || strings.HasPrefix(name, folder+"/")
	})
}

// within is under as a predicate.
func within(folders ...string) func(string) bool {
	return func(imported string) bool { return under(imported, folders...) }
}

// isStandard tells by the first element, which for all others is the name of a host.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// floorOf returns the number of a package's floor.
func floorOf(p string) (int, bool) {
	for number, f := range floors {
		if slices.Contains(f.packages, p) {
			return number, true
		}
	}
	return 0, false
}

// servesTests reports whether a package is there for tests, which may import it from its own floor.
func servesTests(p string) bool {
	return strings.HasSuffix(p, "test") || p == "repo/storage/mem" // the bucket under the tests of other buckets
}

// onlyDownward finds packages without a floor, and imports of the same floor or a higher one. Tests
// are bound like the rest, but for the packages that serve them.
func onlyDownward(all []pkg) []string {
	var findings []string
	for _, p := range all {
		from, ok := floorOf(p.path)
		if !ok {
			findings = append(findings, fmt.Sprintf("package %s has no floor; give it one in imports_test.go", p.path))
			continue
		}
		for _, s := range p.sources {
			imports := s.imports()
			for _, imported := range slices.Sorted(maps.Keys(imports)) {
				inner, ours := strings.CutPrefix(imported, module+"/")
				to, known := floorOf(inner)
				switch {
				case !ours, to < from && known:
				case inner == p.path && s.isTest(): // the external test of the package
				case !known:
					findings = append(findings, fmt.Sprintf("%s: imports %s, which has no floor", imports[imported], inner))
				case to > from:
					findings = append(findings, fmt.Sprintf(
						"%s: %s on floor %d imports %s on floor %d; floor %d is: %s",
						imports[imported], p.path, from, inner, to, from, floors[from].reason))
				case s.isTest() && servesTests(inner):
				case beside[[2]string{p.path, inner}] == "":
					findings = append(findings, fmt.Sprintf(
						"%s: %s and %s are both on floor %d: %s", imports[imported], p.path, inner, from, floors[from].reason))
				}
			}
		}
	}
	return findings
}

// nobodyMovedOut finds packages that have a floor and are gone.
func nobodyMovedOut(all []pkg) []string {
	var findings []string
	for number, f := range floors {
		for _, p := range f.packages {
			if !slices.ContainsFunc(all, func(there pkg) bool { return there.path == p }) {
				findings = append(findings, fmt.Sprintf("floor %d names package %s, which is not there", number, p))
			}
		}
	}
	return findings
}

// nothingBanned finds the imports that a ban keeps out.
func nothingBanned(all []pkg) []string {
	var findings []string
	for _, p := range all {
		for _, s := range p.sources {
			imports := s.imports()
			for _, imported := range slices.Sorted(maps.Keys(imports)) {
				for _, b := range bans {
					if b.bans(imported) && b.from(p, s) {
						findings = append(findings, fmt.Sprintf("%s: imports %s: %s: %s", imports[imported], imported, b.what, b.reason))
					}
				}
			}
		}
	}
	return findings
}

// unargued finds libraries that go.mod requires directly, and of which the page of dependencies does
// not say why they are there.
func unargued(mod, page string) []string {
	var findings []string
	for line := range strings.Lines(mod) {
		line, direct := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "\t")
		library, _, required := strings.Cut(line, " v")
		if direct && required && !strings.HasSuffix(line, "// indirect") && !strings.Contains(page, "`"+library+"`") {
			findings = append(findings, fmt.Sprintf("go.mod: %s is not in docs/design/dependencies.md", library))
		}
	}
	return findings
}

func TestEveryDependencyIsArgued(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/design/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range unargued(string(mod), string(page)) {
		t.Error(finding)
	}
}

func TestUnarguedDependenciesAreFound(t *testing.T) {
	found := unargued("require (\n\texample.com/a v1.0.0\n\texample.com/b/v2 v2.0.0\n\texample.com/c v0.1.0 // indirect\n)\n", "| `example.com/a` |")
	if len(found) != 1 || !strings.Contains(found[0], "example.com/b/v2") {
		t.Errorf("found %q, want one finding about example.com/b/v2", found)
	}
}

func TestImportsGoOnlyDownward(t *testing.T) { uphold(t, onlyDownward, ".") }

func TestFloorsNameWhatIsThere(t *testing.T) { uphold(t, nobodyMovedOut, ".") }

func TestMissingPackagesAreFound(t *testing.T) {
	listed := 0
	for _, f := range floors {
		listed += len(f.packages)
	}
	if found := nobodyMovedOut([]pkg{{path: "repo"}}); len(found) != listed-1 {
		t.Errorf("found %d missing packages, want all %d but one", len(found), listed)
	}
}

func TestNoBannedImports(t *testing.T) { uphold(t, nothingBanned, ".") }

func TestEveryRuleGivesItsReason(t *testing.T) {
	seen := make(map[string]int)
	for number, f := range floors {
		if len(strings.Fields(f.reason)) < 5 {
			t.Errorf("floor %d gives no reason", number)
		}
		for _, p := range f.packages {
			if other, twice := seen[p]; twice {
				t.Errorf("%s is on floors %d and %d", p, other, number)
			}
			seen[p] = number
		}
	}
	for pair, reason := range beside {
		if len(strings.Fields(reason)) < 5 {
			t.Errorf("%s may import %s for no reason", pair[0], pair[1])
		}
		if seen[pair[0]] != seen[pair[1]] {
			t.Errorf("%s and %s are not on one floor, so beside need not name them", pair[0], pair[1])
		}
	}
	for _, b := range bans {
		if len(strings.Fields(b.reason)) < 5 {
			t.Errorf("the ban of %s gives no reason", b.what)
		}
	}
}

func TestImportsUpwardAreFound(t *testing.T) {
	importing := func(imported ...string) string {
		return "package x\n\nimport (\n\t_ \"" + strings.Join(imported, "\"\n\t_ \"") + "\"\n)\n"
	}
	catches(t, onlyDownward, []planting{
		{"downward", map[string]string{"repo/a.go": importing("fmt", "example.com/x", module+"/repo/seal", module+"/index")}, ""},
		{"upward", map[string]string{"repo/a.go": importing(module + "/snapshot")}, "repo/a.go:4: repo on floor 3 imports snapshot on floor 6"},
		{"upward in a test", map[string]string{"repo/a_test.go": importing(module + "/snapshot/tree")}, "repo on floor 3 imports snapshot/tree on floor 4"},
		{"sideways", map[string]string{"index/a.go": importing(module + "/repo/pack")}, "index and repo/pack are both on floor 2"},
		{"sideways with a reason", map[string]string{"repo/storage/dial/a.go": importing(module + "/repo/storage/dir")}, ""},
		{"reason holds in one direction", map[string]string{"repo/storage/dir/a.go": importing(module + "/repo/storage/dial")}, "both on floor 1"},
		{"a test with its suite", map[string]string{"repo/storage/dir/a_test.go": importing(module+"/repo/storage/dir", module+"/repo/storage/storagetest")}, ""},
		{"a test with a bucket in memory", map[string]string{"repo/storage/meter/a_test.go": importing(module + "/repo/storage/mem")}, ""},
		{"a bucket in memory in what is shipped", map[string]string{"repo/storage/meter/a.go": importing(module + "/repo/storage/mem")}, "both on floor 1"},
		{"the suite in what is shipped", map[string]string{"repo/storage/dir/a.go": importing(module + "/repo/storage/storagetest")}, "both on floor 1"},
		{"no floor", map[string]string{"repo/attic/a.go": importing("fmt")}, "package repo/attic has no floor"},
		{"import without a floor", map[string]string{"repo/a.go": importing(module + "/repo/attic")}, "imports repo/attic, which has no floor"},
		{"a package that is no part of the list by its prefix", map[string]string{"repository/a.go": importing("fmt")}, "repository has no floor"},
	})
}

func TestBannedImportsAreFound(t *testing.T) {
	importing := func(imported string) string { return "package x\n\nimport _ \"" + imported + "\"\n" }
	catches(t, nothingBanned, []planting{
		{"nothing", map[string]string{"repo/a.go": importing("fmt"), "kube/a.go": importing("k8s.io/api/core/v1")}, ""},
		{"client-go in repo", map[string]string{"repo/seal/a.go": importing("k8s.io/client-go/rest")}, "repo/seal/a.go:3: imports k8s.io/client-go/rest: Kubernetes below kube"},
		{"sigs.k8s.io in a test of index", map[string]string{"index/a_test.go": importing("sigs.k8s.io/yaml")}, "Kubernetes below kube"},
		{"k8s.io in files", map[string]string{"snapshot/files/a.go": importing("k8s.io/utils/ptr")}, "Kubernetes below kube"},
		{"library in the chunker", map[string]string{"chunker/a.go": importing("github.com/zeebo/blake3")}, "more than the standard library"},
		{"our own package in the chunker", map[string]string{"chunker/a.go": importing(module + "/repo/blob")}, "more than the standard library"},
		{"library in a test of the chunker", map[string]string{"chunker/a_test.go": importing("github.com/google/go-cmp/cmp")}, ""},
		{"SDK in its driver", map[string]string{"repo/storage/cloud/a.go": importing("gocloud.dev/blob")}, ""},
		{"SDK beside the keys in services", map[string]string{"repo/seal/a.go": importing("gocloud.dev/secrets")}, "a cloud SDK outside its driver"},
		{"SDK in dial", map[string]string{"repo/storage/dial/a.go": importing("gocloud.dev/blob")}, "a cloud SDK outside its driver"},
		{"SDK in a command", map[string]string{"cmd/varve/command/a.go": importing("github.com/aws/aws-sdk-go-v2/aws")}, "a cloud SDK outside its driver"},
		{"testing in what is shipped", map[string]string{"repo/a.go": importing("testing")}, "test support in what is shipped"},
		{"testing/fstest in what is shipped", map[string]string{"repo/a.go": importing("testing/fstest")}, "test support in what is shipped"},
		{"testing in a suite", map[string]string{"repo/storage/storagetest/a.go": importing("testing")}, ""},
		{"a suite in what is shipped", map[string]string{"kube/backup/a.go": importing(module + "/kube/kubetest")}, "test support in what is shipped"},
		{"go-cmp in what is shipped", map[string]string{"kube/a.go": importing("github.com/google/go-cmp/cmp")}, "test support in what is shipped"},
		{"testify in a test", map[string]string{"kube/a_test.go": importing("github.com/stretchr/testify/require")}, "an assertion library"},
		{"gomega in a suite", map[string]string{"kube/kubetest/a.go": importing("github.com/onsi/gomega")}, "an assertion library"},
		{"slog in a library", map[string]string{"repo/a.go": importing("log/slog")}, "a log"},
		{"slog in a command", map[string]string{"cmd/varve/command/a.go": importing("log/slog")}, ""},
		{"unsafe", map[string]string{"index/a.go": importing("unsafe")}, "unsafe or C"},
	})
}
