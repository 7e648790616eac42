// Package simulation plays a repository against everything that may go wrong, in schedules that a seed
// decides and replays. It holds tests only.
//
// A run is a small world. In it stands one bucket in memory, and around it the roles of real life:
// writers, forgetters, prunes, repairs, restores, checks. Each role runs the real code of package repo
// in a goroutine of its own, and each of its lives is a process with its own view of the bucket. A
// process may die at any request and start again, go on from the cache of an older image of its machine,
// wait for a day while the others work, or be the clone of another that draws the same random numbers.
//
// Every request to the bucket stops in front of the scheduler. When all goroutines stand still, it
// draws which request goes on and what happens to it: an error before or after the effect, an effect
// that comes later or twice, an old or broken-off list, flipped or missing bytes. Time is virtual and
// passes when the scheduler says so. Nothing else decides, so one seed is one schedule: the seed also
// feeds crypto/rand, and a test compares the traces of runs of the same seed.
//
// Beside the world stands the ghost, which knows what was written and acknowledged, reads the true
// journal and looks after every change whether the promises still hold:
//
//   - a live snapshot, acknowledged or not, has a good copy of each of its blobs in a pack that stands;
//   - a read returns the bytes that were written, or an error;
//   - a process that met no fault fails at nothing, apart from what its own documentation says;
//   - at the end everybody opens and works without help, a check finds nothing, and two prunes leave
//     exactly what is needed.
//
// The ghost excuses what nobody can prevent: damage done to the last good copy.
//
//	go test ./repo/simulation                           200 seeds
//	go test ./repo/simulation -seeds 5000 -from 1000    as many as there is time for
//	go test ./repo/simulation -seeds 1 -from 4711 -v    one seed, with its trace
//
// A failure names its seed and the smallest world in which it still happens: without the roles and faults
// that it does not need.
package simulation
