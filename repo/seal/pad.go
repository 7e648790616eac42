package seal

import "math/bits"

// Padded returns the smallest Padmé size of at least n bytes. Padmé sizes keep only the leading bits
// of a length (as many as the length of its exponent), so that an observer learns O(log log n) bits
// and nothing grows by more than 12 %.
//
// Source: Nikitin, Barman, Lueks, Underwood, Hubaux, Ford: "Reducing Metadata Leakage from Encrypted
// Files and Communication with PURBs", PoPETs 2019, section 4.2.
func Padded(n int) int {
	if n < 2 {
		return n
	}
	exponent := bits.Len(uint(n)) - 1
	kept := bits.Len(uint(exponent))
	mask := 1<<(exponent-kept) - 1
	return (n + mask) &^ mask
}
