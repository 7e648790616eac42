package corpus

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"text/template"
)

// A scene is what a manifest is rendered for. Its methods make up contents; each scene has its own
// source of chance, so that no manifest changes because another one did.
type scene struct {
	Name  string // of the namespace
	Team  string
	App   string
	Index int // of the app in its namespace
	rand  *rand.Rand
}

// functions are what templates use beside a scene's methods.
var functions = template.FuncMap{
	"indent": func(n int, s string) string { return strings.ReplaceAll(s, "\n", "\n"+strings.Repeat(" ", n)) },
	"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"third":  func(n int) int { return n % 3 },
}

func (s *scene) seed(seed uint64, file string) { s.rand = source(seed, file, s.Name, s.App) }

// source returns a source of chance that depends on a seed and names, and on nothing else.
func source(seed uint64, names ...string) *rand.Rand {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%q", names)
	return rand.New(rand.NewPCG(seed, sum.Sum64()))
}

// Number returns a number between two, both included.
func (s *scene) Number(from, to int) int { return from + s.rand.IntN(to-from+1) }

// Replicas returns a number of pods: mostly one, so that the pods do not outnumber all the rest.
func (s *scene) Replicas() int { return 1 + s.rand.IntN(4)/3 }

// Of returns one of its arguments.
func (s *scene) Of(words ...string) string { return words[s.rand.IntN(len(words))] }

// Bytes returns n bytes of chance.
func (s *scene) Bytes(n int) string { return string(chance(s.rand, n)) }

// Hex returns n hexadecimal digits.
func (s *scene) Hex(n int) string { return hex.EncodeToString(chance(s.rand, n/2+1))[:n] }

// Word returns n letters and digits, as a generated password has them.
func (s *scene) Word(n int) string {
	const letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	word := make([]byte, n)
	for i := range word {
		word[i] = letters[s.rand.IntN(len(letters))]
	}
	return string(word)
}

// PEM returns a block of n lines that looks like a certificate or a key, and is none.
func (s *scene) PEM(label string, n int) string {
	lines := []string{"-----BEGIN " + label + "-----"}
	for range n {
		lines = append(lines, base64.StdEncoding.EncodeToString(chance(s.rand, 48)))
	}
	return strings.Join(append(lines, "-----END "+label+"-----"), "\n")
}

// Properties returns n lines of a Java properties file.
func (s *scene) Properties(n int) string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("%s.%s.%s=%s", noun(s.rand), noun(s.rand), noun(s.rand), value(s.rand))
	}
	return strings.Join(lines, "\n")
}

// JSON returns an object with n keys.
func (s *scene) JSON(n int) string {
	fields := map[string]any{}
	for i := range n {
		fields[fmt.Sprintf("%s_%s_%d", noun(s.rand), noun(s.rand), i)] = value(s.rand)
	}
	content, err := json.MarshalIndent(fields, "", "  ")
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	return string(content)
}

var nouns = strings.Fields(`account address archive audit backend batch broker bucket buffer cache cart
	channel client cluster config connection consumer customer database deadline delivery discount
	endpoint event export feature filter gateway handler health image import index invoice item job
	journal key ledger limit listener locale lock login mail metric mirror module network node offer
	order parcel partner password payment period pool price product profile proxy queue rate reader
	receipt record region report request resource retry route rule sample schedule schema search
	segment server session shard shipment signal snapshot source stock storage stream supplier table
	tenant thread ticket timeout token topic trace transfer user vendor version voucher window worker`)

func noun(r *rand.Rand) string { return nouns[r.IntN(len(nouns))] }

// value returns what a setting is set to.
func value(r *rand.Rand) string {
	switch r.IntN(5) {
	case 0:
		return fmt.Sprint(r.IntN(10000))
	case 1:
		return []string{"true", "false"}[r.IntN(2)]
	case 2:
		return fmt.Sprintf("%ds", r.IntN(600))
	case 3:
		return fmt.Sprintf("https://%s.%s.svc.cluster.local:%d/%s", noun(r), noun(r), 8000+r.IntN(1000), noun(r))
	default:
		return noun(r) + "-" + noun(r)
	}
}

// chance returns n bytes.
func chance(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		word := r.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(word)
			word >>= 8
		}
	}
	return b
}
