package command

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/varve-dev/varve/kube"
)

// fieldChange is one field in which two forms of an object differ. Old is nil where the field is new,
// and New where it is gone.
type fieldChange struct {
	Field string `json:"field"` // spec.containers[web].image
	Old   any    `json:"old,omitempty"`
	New   any    `json:"new,omitempty"`
}

// fieldChanges returns the fields in which two objects differ, in order. Elements of lists are matched
// by their name if all have one, and otherwise by position.
func fieldChanges(old, new kube.Object) []fieldChange {
	var changes []fieldChange
	compareValues("", map[string]any(old), map[string]any(new), &changes)
	return changes
}

func compareValues(at string, old, new any, into *[]fieldChange) {
	if reflect.DeepEqual(old, new) {
		return
	}
	switch old := old.(type) {
	case map[string]any:
		if new, ok := new.(map[string]any); ok {
			compareFields(at, old, new, into)
			return
		}
	case []any:
		if new, ok := new.([]any); ok {
			compareElements(at, old, new, into)
			return
		}
	}
	*into = append(*into, fieldChange{at, old, new})
}

func compareFields(at string, old, new map[string]any, into *[]fieldChange) {
	for _, field := range slices.Sorted(maps.Keys(union(old, new))) {
		x, inOld := old[field]
		y, inNew := new[field]
		comparePresent(fieldOf(at, field), present{x, inOld}, present{y, inNew}, into)
	}
}

func compareElements(at string, old, new []any, into *[]fieldChange) {
	byName, ok := named(old)
	newByName, newOK := named(new)
	if ok && newOK {
		for _, name := range slices.Sorted(maps.Keys(union(byName, newByName))) {
			x, inOld := byName[name]
			y, inNew := newByName[name]
			comparePresent(at+"["+escaped(name)+"]", present{x, inOld}, present{y, inNew}, into)
		}
		return
	}
	element := func(list []any, i int) present {
		if i < len(list) {
			return present{list[i], true}
		}
		return present{}
	}
	for i := range max(len(old), len(new)) {
		comparePresent(fmt.Sprintf("%s[%d]", at, i), element(old, i), element(new, i), into)
	}
}

// present is a value that may not be there, which is another thing than null.
type present struct {
	value any
	is    bool
}

func comparePresent(at string, old, new present, into *[]fieldChange) {
	if old.is && new.is {
		compareValues(at, old.value, new.value, into)
		return
	}
	*into = append(*into, fieldChange{at, old.value, new.value})
}

// named returns the elements of a list by their names, if all have different ones.
func named(list []any) (map[string]any, bool) {
	byName := map[string]any{}
	for _, e := range list {
		m, _ := e.(map[string]any)
		if name, ok := m["name"].(string); ok {
			byName[name] = e
		}
	}
	return byName, len(byName) == len(list)
}

func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// fieldOf writes the path of a field as people do: a.b, a["b.c"].
func fieldOf(at, field string) string {
	switch {
	case strings.ContainsAny(field, `.[]" `) || escaped(field) != field:
		return at + "[" + strconv.Quote(field) + "]"
	case at == "":
		return field
	}
	return at + "." + field
}

// compact shows a value on one line.
func compact(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	const most = 160
	if runes := []rune(string(text)); len(runes) > most {
		return escaped(string(runes[:most])) + fmt.Sprintf("… (%s)", size(int64(len(text))))
	}
	return escaped(string(text))
}

// lastApplied is where kubectl apply keeps a copy of the whole object, values of Secrets included.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// secretFields are where the values of a Secret stand.
var secretFields = [][]string{{"data"}, {"stringData"}}

// redact hides the values of a Secret in a copy and reports whether there was anything to hide. How
// long a value is may be seen.
func redact(k kube.Key, o kube.Object) (kube.Object, bool) {
	if !k.IsSecret() {
		return o, false
	}
	o, hidden := o.Clone(), false
	for _, field := range secretFields {
		for key, value := range o.Map(field...) {
			o.Map(field...)[key] = hiddenValue(value, field[0] == "data")
			hidden = true
		}
	}
	if o.Text("metadata", "annotations", lastApplied) != "" {
		o.Set("hidden", "metadata", "annotations", lastApplied)
		hidden = true
	}
	return o, hidden
}

// redactBoth is redact for two forms of an object that are about to be compared: values that differ
// still do.
func redactBoth(k kube.Key, old, new kube.Object) (kube.Object, kube.Object) {
	if !k.IsSecret() {
		return old, new
	}
	a, _ := redact(k, old)
	b, _ := redact(k, new)
	for _, field := range append(secretFields, []string{"metadata", "annotations"}) {
		before, after := old.Map(field...), new.Map(field...)
		for key, value := range after {
			if was, ok := before[key]; ok && !reflect.DeepEqual(was, value) && a.Text(append(field, key)...) == b.Text(append(field, key)...) {
				b.Map(field...)[key] = b.Text(append(field, key)...) + ", another"
			}
		}
	}
	return a, b
}

func hiddenValue(v any, encoded bool) string {
	text, ok := v.(string)
	if !ok {
		return "hidden"
	}
	n := len(text)
	if decoded, err := base64.StdEncoding.DecodeString(text); encoded && err == nil {
		n = len(decoded)
	}
	return fmt.Sprintf("hidden (%s)", counted(n, "byte"))
}
