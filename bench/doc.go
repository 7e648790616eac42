// Package bench measures what no test may judge: time, memory and bytes, on work made from a seed. Production code
// never imports it, and nothing here passes or fails by a figure.
//
//	go test ./bench -run '^$' -bench Prune -benchtime 1x -snapshots 1000 -files 100000
package bench
