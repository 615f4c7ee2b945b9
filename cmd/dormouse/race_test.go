//go:build race

package main

// initFactor: the race detector allocates for what it watches.
const initFactor = 2
