package kube

import (
	"slices"
	"strings"
)

// maxDistance is how many slips of the finger still make a near miss.
const maxDistance = 2

// Match returns the resources that a name or a glob means. A glob is matched against the plural alone
// and with its group. A name without a group means what it means to kubectl: the first resource in the
// server's order that has it as plural, else as singular or kind, else as short name.
func (c *Catalog) Match(pattern string) []Resource {
	lower := strings.ToLower(pattern)
	if isGlob(pattern) {
		var found []Resource
		for _, r := range c.Resources {
			if matchAny([]string{lower}, r.Name) || matchAny([]string{lower}, r.String()) {
				found = append(found, r)
			}
		}
		return found
	}
	word, group, qualified := strings.Cut(lower, ".")
	for _, spelled := range []func(r Resource) bool{
		func(r Resource) bool { return r.Name == word },
		func(r Resource) bool { return r.Singular == word || strings.ToLower(r.Kind) == word },
		func(r Resource) bool { return slices.Contains(r.Short, word) },
	} {
		for _, r := range c.Resources {
			if spelled(r) && (!qualified || r.Group == group || slices.Contains(r.Twins, group)) {
				return []Resource{r}
			}
		}
	}
	return nil
}

// couldMatch reports whether a pattern may mean something in a group of which nothing is known.
func couldMatch(pattern, group string) bool {
	_, suffix, qualified := strings.Cut(pattern, ".")
	if !qualified {
		return true
	}
	return matchAny([]string{suffix}, group) || matchAny([]string{pattern}, "x."+group)
}

// near returns at most three names of resources that look like a word.
func (c *Catalog) near(word string) []string {
	word = strings.ToLower(word)
	bare, _, _ := strings.Cut(word, ".")
	type candidate struct {
		name     string
		distance int
	}
	var candidates []candidate
	for _, r := range c.Resources {
		best := maxDistance + 1
		for _, name := range append([]string{r.Name, r.Singular, r.String()}, r.Short...) {
			if len(name) > 3 {
				best = min(best, distance(word, name), distance(bare, name))
			}
		}
		if len(bare) > 3 && strings.HasPrefix(r.Name, bare) {
			best = min(best, maxDistance)
		}
		if best <= maxDistance {
			candidates = append(candidates, candidate{r.String(), best})
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return a.distance - b.distance })
	var names []string
	for _, candidate := range candidates[:min(3, len(candidates))] {
		names = append(names, candidate.name)
	}
	return names
}

// distance is the number of bytes to insert, delete or replace to make b of a (Levenshtein), at most
// one more than [maxDistance].
func distance(a, b string) int {
	if len(a)-len(b) > maxDistance || len(b)-len(a) > maxDistance {
		return maxDistance + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
